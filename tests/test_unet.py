"""The U-Net, its losses and scores, and the boxes of its masks."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml

from lesions.core.errors import InputError
from lesions.networks.build import MEAN, STD, find
from lesions.segment import unet
from lesions.segment.pairs import Pairs, loss_of
from lesions.training import freezing
from lesions.training.config import Compute
from stages import predict_masks, segment
from tests.conftest import ROOT

COMPUTE = Compute(threads=1, amp=True, compile=False, deterministic=True)


def test_logits_have_the_size_of_the_image_whatever_it_is():
    sizes = ((32, 64), (45, 70))
    model = unet.build("unet", "resnet18", *sizes).eval()
    with torch.inference_mode():
        for size in sizes:
            assert unet.forward(model, torch.zeros(1, 3, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0"])
@pytest.mark.parametrize("decoder", sorted(smp.MODEL_ARCHITECTURES_MAPPING))
def test_every_decoder_is_all_head_but_for_its_encoder(decoder, encoder):
    if decoder == "dpt":  # made for transformers
        encoder = "tu-vit_tiny_patch16_224"
    model = unet.build(decoder, encoder, (128, 128))
    freezing.freeze(model, "head")
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert still == {f"encoder.{name}" for name, _ in model.encoder.named_parameters()}


@pytest.mark.parametrize(
    ("decoder", "encoder", "sizes", "said"),
    [
        ("unte", "resnet18", [(64, 64)], "decoder 'unte' is unknown; expected one of .*unet"),
        ("unet", "resnet19", [(64, 64)], "encoder 'resnet19' is unknown; expected one of resnet18.*tu-"),
        (
            "unet",
            "tu-convnext_ato",
            [(64, 64)],
            "'convnext_ato': unknown in family timm; expected one of convnext_atto",
        ),
        ("unet", "tu-vit_tiny_patch16_224", [(64, 64)], "decoder unet on encoder tu-vit_tiny_patch16_224: Unsupported"),
        ("pan", "resnet18", [(128, 128), (64, 64)], "decoder pan on encoder resnet18: cannot take images of 64×64"),
        ("unet", "tu-swin_s3_tiny_224", [(64, 64), (96, 96)], "cannot take images of 96×96"),
    ],
)
def test_a_name_or_a_size_that_will_not_do_is_one_line(decoder, encoder, sizes, said):
    with pytest.raises(InputError, match=said):
        unet.build(decoder, encoder, *sizes)


def test_a_timm_encoder_takes_its_classifiers_weights_mean_and_std(tmp_path):
    """By name, by order alone, and where timm gives a sequence's layers other names (convnext)."""
    for name in ("tf_efficientnet_lite0", "convnext_atto"):
        source = find("timm", name).build((64, 64)).state_dict()
        for state in (source, {f"x{i}": value for i, value in enumerate(source.values())}):
            torch.save(state, tmp_path / "weights")
            model = unet.build("unet", f"tu-{name}", (64, 64), weights=tmp_path / "weights")
            encoder = model.encoder.state_dict()
            again = {
                k.replace("model.", "").replace("stages_", "stages.").replace("stem_", "stem."): k for k in encoder
            }
            assert all(torch.equal(encoder[k], source[bare]) for bare, k in again.items())
    assert unet.statistics("tu-tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert unet.statistics("resnet18") == unet.statistics("tu-convnext_atto") == (MEAN, STD)


def test_weights_of_another_network_are_named(tmp_path):
    torch.save(find("torchvision", "resnet18").build((64, 64)).state_dict(), tmp_path / "w")
    for encoder in ("resnet34", "tu-resnet34"):
        with pytest.raises(InputError, match=f"w: no weights that {encoder} takes"):
            unet.build("unet", encoder, (64, 64), weights=tmp_path / "w")
    with pytest.raises(InputError, match="torchvision publishes no weights of it"):
        unet.build("unet", "efficientnet-b0", (64, 64), weights=tmp_path / "w")


def test_the_encoder_takes_torchvision_weights(tmp_path):
    import torchvision

    source = torchvision.models.resnet34().state_dict()
    torch.save(source, tmp_path / "resnet34")
    encoder = unet.build("unet", "resnet34", (64, 64), weights=tmp_path / "resnet34").encoder.state_dict()
    assert set(encoder) == {k for k in source if not k.startswith("fc.")}
    assert all(torch.equal(v, source[k]) for k, v in encoder.items())


def test_losses_by_their_identities():
    torch.manual_seed(0)
    truth = (torch.rand(3, 1, 16, 16) > 0.6).float()
    perfect, inverted = (truth * 2 - 1) * 50, (1 - truth * 2) * 50
    bce, jaccard = loss_of("bce"), loss_of("jaccard")
    assert jaccard(perfect, truth).item() == pytest.approx(0, abs=1e-6)
    assert jaccard(inverted, truth).item() == pytest.approx(1, abs=0.01)
    assert bce(torch.zeros_like(truth), truth).item() == pytest.approx(np.log(2), abs=1e-6)
    logits = torch.randn_like(truth)
    both = bce(logits, truth) + jaccard(logits, truth)
    assert loss_of("bce_jaccard")(logits, truth).item() == pytest.approx(both.item(), abs=1e-6)


def test_scores_count_pixels(tmp_path, monkeypatch):
    truth = np.zeros((2, 8, 8), np.uint8)
    truth[0, :4], truth[1, :, :2] = 1, 1
    guess = torch.zeros(2, 8, 8)
    guess[0, 2:6], guess[1, :, :2] = 0.9, 0.9
    monkeypatch.setattr(unet, "probabilities", lambda model, images, compute: guess)
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8, 3), np.uint8))
    np.save(tmp_path / "x_masks.npy", truth)
    pairs = Pairs(tmp_path / "x.npy", {"val": np.arange(2)}, 2, torch.device("cpu"), "resnet18")
    _, jaccards, dices = pairs.score(None, "val", 1, "bce", COMPUTE)
    assert jaccards == pytest.approx([16 / 48, 1]) and dices == pytest.approx([2 * 16 / 64, 1])


def test_boxes_hold_the_mask_and_nothing_more():
    one = np.zeros((10, 12), np.uint8)
    assert predict_masks.box(one) == (0, 0, 10, 12)
    one[3:7, 5:6] = 1
    assert predict_masks.box(one) == (3, 5, 7, 6)


def test_a_crop_is_put_where_it_was_in_the_photograph():
    """A photograph of a ramp at the U-Net's size; its middle square, at half of that, comes back to its place."""
    whole = torch.linspace(0, 200, 64).expand(1, 3, 48, 64).contiguous()
    crop = torch.nn.functional.interpolate(whole[..., 8:56], size=(24, 24), mode="bilinear", antialias=True)
    placed, (down, across) = predict_masks.framed(crop, (48, 64), crops=True)
    assert placed.shape == whole.shape and (down, across) == (slice(0, 48), slice(8, 56))
    assert (placed - whole)[..., 10:54].abs().max() < 0.5
    assert (placed[..., :8] == placed[..., 8:9]).all() and (placed[..., 56:] == placed[..., 55:56]).all()
    squeezed, whereabouts = predict_masks.framed(crop, (48, 64), crops=False)
    assert squeezed.shape == whole.shape and whereabouts == (slice(0, 48), slice(0, 64))
    tall, (down, across) = predict_masks.framed(torch.zeros(2, 3, 30, 20), (48, 64), crops=True)
    assert tall.shape == (2, 3, 48, 64) and (down, across) == (slice(0, 48), slice(16, 48))


def test_masks_are_the_mean_of_study_ds_folds(tmp_path, monkeypatch):
    """Two folds of three see the left half at .9, the third the right half: .6 is above the threshold, .3 is not."""
    for name in ("sorted", "resized/isic2019"):
        (tmp_path / "data" / name).mkdir(parents=True)
    pd.DataFrame({"image": ["a"]}).to_csv(tmp_path / "data/sorted/isic2019.csv", index=False)
    np.save(tmp_path / "data/resized/isic2019/classify.npy", np.zeros((1, 32, 32, 3), np.uint8))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    loaded = {}

    def trained(decoder, encoder, size, states, device):
        loaded.update({"size": size, "states": [str(path) for path in states]})
        return [(0.0, 0.9), (0.9, 0.0), (0.9, 0.0)]

    def said(p, images, compute):
        found = torch.full((len(images), *images.shape[2:]), p[0])
        found[..., images.shape[3] // 2 :] = p[1]
        return found

    monkeypatch.setattr(unet, "trained", trained)
    monkeypatch.setattr(unet, "probabilities", said)
    monkeypatch.setattr(sys, "argv", ["predict_masks", "isic2019"])
    predict_masks.main()
    assert loaded == {"size": (64, 64), "states": [f"models/unet34/{fold}.pt" for fold in range(3)]}
    mask = np.load("data/masks/isic2019.npy")[0]
    assert mask[:, :15].all() and not mask[:, 17:].any()


def test_the_examples_are_a_good_and_a_bad_one():
    assert segment.examples(np.array([0.1, 0.85, 0.95, 0.9, 0.5])) == {"good": 3, "bad": 0}
    assert segment.examples(np.array([0.6, 0.7])) == {"good": 1, "bad": 0}


def test_a_unets_phases_have_the_rates_that_range_tests_find(tmp_path, monkeypatch):
    rng, parts = np.random.default_rng(0), ["train"] * 8 + ["val"] * 3 + ["test"] * 3
    for name in ("sorted", "resized/isic2018"):
        (tmp_path / "data" / name).mkdir(parents=True)
    table = pd.DataFrame({"image": [f"i{n}" for n in range(14)], "mask": "m.png", "split": parts})
    table.to_csv(tmp_path / "data/sorted/isic2018.csv", index=False)
    masks = np.zeros((14, 32, 32), np.uint8)
    for mask, (top, left) in zip(masks, rng.integers(2, 16, (14, 2)), strict=True):
        mask[top : top + 12, left : left + 12] = 1
    images = rng.integers(0, 60, (14, 32, 32, 3), np.uint8) + 160 * masks[..., None]  # the lesion is bright
    np.save(tmp_path / "data/resized/isic2018/segment.npy", images)
    np.save(tmp_path / "data/resized/isic2018/segment_masks.npy", masks)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    phases = [{"epochs": 1, "lr": "range", "train": part} for part in ("head", "all")]
    raw["segment"] |= {"phases": phases, "range_steps": 20, "batch": 8, "augment": [], "schedule": "none"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["segment"])
    segment.main()
    rates = pd.read_csv("plots/segment/history.csv")["lr"]
    tested = np.logspace(-7, 1, 20)  # the rates of a range test
    assert len(rates) == 2 and np.isclose(rates.to_numpy()[:, None], tested, rtol=1e-3).any(axis=1).all()
    names = {path.name for path in (tmp_path / "models/segment").iterdir()}
    assert names == {"loss.pt", "jaccard.pt", "scores.csv", "range_1.png", "range_2.png"}
    found = pd.read_csv("data/predictions/segment.csv")
    kept = found[found["checkpoint"] == "jaccard"]
    assert list(kept["image"]) == ["i11", "i12", "i13"]
    metrics = json.loads((tmp_path / "metrics/segment.json").read_text(encoding="utf-8"))
    assert metrics["jaccard"] == pytest.approx(kept["jaccard"].mean(), abs=1e-6)
