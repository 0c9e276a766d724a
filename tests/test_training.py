"""The classifiers' contract, augmentation, the feed and the training loop."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from lesions.batches import augment, feed, photometric
from lesions.classify import experiment
from lesions.classify.config import Classifier
from lesions.core import files
from lesions.core.errors import InputError
from lesions.networks import build
from lesions.training import checkpoints, freezing, hardware, loop, schedules
from lesions.training.config import Compute
from stages import attention

COMPUTE = Compute(threads=1, amp=True, compile=False, deterministic=True)


def block(**changes) -> Classifier:
    found = {
        "family": "residual", "network": "residual", "recipe": "a", "set": "isic2019", "split": "standard",
        "images": "resized/isic2019/classify", "generated": "none", "weights": "data/weights/none", "epochs": 2,
        "epoch_images": 0, "batch": 8, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.0, "schedule": "none",
        "sampler": "uniform", "augment": ["hflip"], "seed": 3, "dropout": 0.0, "runs": 1, "snapshots": False,
        "tta": False, "predict": ["val", "test"],
    }  # fmt: skip
    return Classifier(**(found | changes))


SIZE = (64, 64)
OF = {
    "torchvision": "alexnet googlenet resnet18 resnet50_concat resnet101 squeezenet1_1 vgg16 wide_resnet50_2",
    "attention": "resnet50 resnet50_arl efficientnet_b0 efficientnet_b0_arl efficientnet_b0_no_se "
    "efficientnet_b0_no_se_arl lite0 lite0_arl",
    "residual": "residual",
    "timm": "convnext_atto mobilenetv4_conv_small tf_efficientnet_lite0 resnetv2_18 vit_tiny_patch16_224 "
    "deit_tiny_distilled_patch16_224 swin_s3_tiny_224",
}
NETWORKS = [(family, name) for family, names in OF.items() for name in names.split()]


@pytest.mark.parametrize(("family", "name"), NETWORKS)
class TestEveryClassifier:
    """One contract for all."""

    def build(self, family, name, seed=0, **changes):
        torch.manual_seed(seed)
        return build.build(family, name, 5, SIZE, **changes)

    def test_logits_have_the_asked_shape_and_every_parameter_gets_a_gradient(self, family, name):
        model = self.build(family, name).train()
        torch.manual_seed(1)
        logits = model(torch.randn(4, 3, *SIZE))
        assert logits.shape == (4, 5)
        functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_the_seed_decides_the_weights_and_a_saved_state_brings_them_back(self, family, name, tmp_path):
        first, same, other = (self.build(family, name, seed=seed) for seed in (0, 0, 1))
        state = first.state_dict()
        assert all(torch.equal(v, same.state_dict()[k]) for k, v in state.items())
        checkpoints.save(tmp_path / "m", {"loss": (1, state), "bma": (1, state)})
        other.load_state_dict(checkpoints.load(tmp_path / "m/bma.pt"))
        assert all(torch.equal(v, other.state_dict()[k]) for k, v in state.items())
        assert (tmp_path / "m/loss.pt").read_bytes() == (tmp_path / "m/bma.pt").read_bytes()

    def test_pretrained_weights_are_kept_but_for_the_head(self, family, name, tmp_path):
        torch.manual_seed(7)
        network = build.find(family, name)
        source = (network.plain() if network.plain else network.build(SIZE)).state_dict()
        torch.save(source, tmp_path / "weights")
        model = self.build(family, name, weights=tmp_path / "weights", dropout=0.1)
        state, marked = model.state_dict(), (n for n, m in model.named_modules() if isinstance(m, freezing.Head))
        head = tuple(f"{place}." for place in (*marked, *freezing.last_layers(model)))
        with torch.device("meta"):
            both = source.keys() & network.build(SIZE).state_dict().keys()  # a variant has not all of the source's
        kept = {k for k, v in state.items() if k in source and torch.equal(v, source[k])}
        assert kept == {k for k in both if not k.startswith(head)}
        assert {k for k in state.keys() - kept if not k.endswith(".alpha")} == {k for k in state if k.startswith(head)}


def test_foreign_weights_are_named(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear")
    (tmp_path / "text").write_text("no weights")
    for family in ("torchvision", "timm"):
        with pytest.raises(InputError, match=r"no weights that resnet18 takes: .*conv1\.weight"):
            build.build(family, "resnet18", 8, SIZE, tmp_path / "linear")
        with pytest.raises(InputError, match="text: unreadable"):
            build.build(family, "resnet18", 8, SIZE, tmp_path / "text")


def test_a_pickle_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({"x": Evil()}, tmp_path / "evil")
    with pytest.raises(InputError):
        checkpoints.load(tmp_path / "evil")
    assert not (tmp_path / "owned").exists()


def test_augmentation_differs_within_a_batch_and_moves_masks_along():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(64, 1, 1, 1)
    images, masks = augment.geometric(
        ("hflip", "vflip", "transpose"), (image, image + 100), torch.Generator().manual_seed(0)
    )
    assert torch.equal(images + 100, masks)
    variants = {tuple(x.flatten().tolist()) for x in images}
    assert len(variants) == 8  # the dihedral group
    assert all(sorted(v) == list(range(16)) for v in variants)


def test_lighting_is_drawn_for_each_image_and_stays_in_range():
    images = torch.full((32, 3, 4, 4), 0.5)
    lit = photometric.lighting(images, torch.Generator().manual_seed(0))
    assert lit.min() >= 0 and lit.max() <= 1 and len(lit.mean(dim=(1, 2, 3)).unique()) == 32


def test_transpose_needs_square_images():
    with pytest.raises(InputError, match="square"):
        augment.geometric(("transpose",), (torch.zeros(1, 3, 4, 6),), torch.Generator())


def test_the_feed_reads_several_arrays_as_one(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (n, 4, 5, 3), dtype=np.uint8) for n in (7, 0, 3)]
    both, one = np.concatenate(arrays), feed.Feed(arrays, torch.device("cpu"))
    index = np.array([9, 0, 6, 7, 7])
    assert len(one) == 10
    assert (one.batch(index).permute(0, 2, 3, 1).numpy() == both[index]).all()


def test_epochs_draw_each_image_once_or_each_class_equally():
    rng = np.random.default_rng(0)
    once = np.concatenate(loop.epoch_order(103, 10, rng))
    assert sorted(once) == list(range(103))
    assert [len(b) for b in loop.epoch_order(101, 10, rng)] == [10] * 10  # no batch of one image
    labels = np.array([0] * 900 + [1] * 100)
    drawn = np.concatenate(loop.epoch_order(1000, 50, rng, 1 / np.bincount(labels)[labels], images=4000))
    assert len(drawn) == 4000 and abs(labels[drawn].mean() - 0.5) < 0.05


@pytest.fixture
def data(tmp_path):
    """A data folder of 80 easy 32×32 images: the class shows in the colour. Lesions of two images."""
    rng, labels = np.random.default_rng(0), ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"] * 10
    images = rng.integers(0, 60, (80, 32, 32, 3))
    for i in range(80):
        images[i, 8:24, 8:24] += np.array([(i % 8 >> k & 1) * 150 for k in range(3)])
    for folder in ("sorted", "resized/isic2019", "generated"):
        (tmp_path / folder).mkdir(parents=True)
    np.save(tmp_path / "resized/isic2019/classify.npy", images.astype(np.uint8))
    np.save(tmp_path / "generated/none.npy", np.zeros((0, 64, 64, 3), np.uint8))
    np.save(tmp_path / "generated/AK.npy", rng.integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    roles = ["train"] * 48 + ["val"] * 16 + ["test"] * 16
    table = pd.DataFrame({"image": [f"I{i}" for i in range(80)], "lesion": range(80), "label": labels, "cv0": roles})
    table.assign(balanced=table["cv0"]).to_csv(tmp_path / "sorted/isic2019.csv", index=False)
    return tmp_path


def run(data, monkeypatch, **changes):
    monkeypatch.chdir(data)
    one = block(**changes)
    trial = experiment.Experiment(one, one.split, COMPUTE, data)
    model, found = trial.fit("test")
    return trial, model, found, trial.predict(model, found.best)


def test_pictures_that_tell_two_networks_apart_come_first_and_melanomas_before_the_rest():
    right = np.array([[1, 1, 0, 0, 1, 0, 1, 0], [1, 0, 1, 1, 1, 0, 1, 0]], bool)
    melanoma = np.array([0, 0, 0, 1, 0, 1, 0, 0], bool)
    assert attention.telling(right, melanoma).tolist() == [3, 1, 2, 5, 0, 4]


def test_a_dozen_images_are_learnt_by_heart(data, monkeypatch):
    table = pd.read_csv(data / "sorted/isic2019.csv")
    table["cv0"] = ["train"] * 16 + ["val"] * 32 + ["test"] * 32
    table.to_csv(data / "sorted/isic2019.csv", index=False)
    trial, model, *_ = run(data, monkeypatch, epochs=40, augment=[], lr=3e-3)
    p = trial.predictor(model, trial.feed, trial.rows["train"])
    assert (p.argmax(axis=1) == trial.targets[trial.rows["train"]]).all()


def test_two_runs_give_the_same_predictions_and_another_seed_others(data, monkeypatch):
    first, again, other = (run(data, monkeypatch, seed=s)[3] for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first.filter(like="p_"), other.filter(like="p_"))


def test_switches_change_nothing_but_rounding(data, monkeypatch):
    monkeypatch.chdir(data)
    fused, found, optimizer_for = [], [], loop.optimizer_for
    monkeypatch.setattr(loop, "optimizer_for", lambda *a: fused.append(a[3]) or optimizer_for(*a))
    one = block(family="torchvision", network="resnet18", optimizer="sgd", augment=[], epochs=1, batch=48)  # one step
    for on in (True, False):
        trial = experiment.Experiment(one, one.split, COMPUTE.model_copy(update={"device": "cpu"}), data)
        assert trial.switches == hardware.Switches(channels_last=True, fused=True)
        trial.switches = hardware.Switches(channels_last=on, fused=on)
        model, fit = trial.fit("test")
        assert model.conv1.weight.is_contiguous(memory_format=trial.switches.layout)
        found.append((fit.history.to_numpy(), trial.predict(model, fit.best).filter(like="p_").to_numpy()))
    assert fused == [True, False]
    for with_, without in zip(*found, strict=True):
        assert np.abs(with_ - without).max() < 1e-4


def test_switches_are_what_is_asked_for_on_cuda_alone():
    both = COMPUTE.model_copy(update={"compile": True})
    every = hardware.Switches(True, True, True, True)
    assert hardware.switches(both, torch.device("cuda")) == every
    assert hardware.switches(both, torch.device("cpu")) == hardware.Switches(True, True)
    assert hardware.switches(COMPUTE.model_copy(update={"amp": False}), torch.device("cuda")).amp is False
    assert every.autocast(torch.device("cpu")).fast_dtype == torch.bfloat16 and every.layout == torch.channels_last


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"family": "residul"}, "residul.*expected one of attention, residual, timm, torchvision"),
        ({"family": "timm", "network": "convnext_ato"}, "convnext_ato.*expected one of convnext_atto"),
        ({"augment": ("hflip", "rotat")}, "augment: 'rotat' is unknown"),
        ({"family": "timm", "network": "vit_tiny_patch14_dinov2"}, "unknown in family timm"),
        ({"family": "timm", "network": "vit_small_patch14_dinov2"}, "32×32 .*multiple of its patch, 14×14"),
        ({"family": "timm", "network": "inception_v3"}, "network inception_v3: cannot take images of 32×32"),
    ],
)
def test_a_name_or_a_size_that_will_not_do_is_one_line_before_anything_is_trained(data, monkeypatch, changes, said):
    monkeypatch.setattr(loop, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    with pytest.raises(InputError, match=said):
        experiment.inputs(block(**changes), data)
        run(data, monkeypatch, **changes)


def test_images_come_as_the_networks_own_configuration_says(data, monkeypatch):
    """Of the same pixels: by ImageNet's mean and std, and by .5 and .5, those of lite0."""
    found = []
    for family, network in (("torchvision", "resnet18"), ("timm", "tf_efficientnet_lite0")):
        trial = experiment.Experiment(block(family=family, network=network, augment=()), "standard", COMPUTE, data)
        images, targets = next(iter(trial.batches(0)[1]))
        found.append((images, targets))
    (first, targets), (second, same) = found
    assert torch.equal(targets, same)
    pixels = second / 2 + 0.5
    mean, std = (torch.tensor(of)[:, None, None] for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close((pixels - mean) / std, first, rtol=1e-4, atol=1e-4)


def test_the_three_checkpoints_are_the_best_epochs(data, monkeypatch):
    _, _, found, predictions = run(data, monkeypatch, epochs=6)
    history = found.history.set_index("epoch")
    assert found.best["loss"][0] == history["val_loss"].idxmin()
    assert found.best["accuracy"][0] == history["val_accuracy"].idxmax()
    assert found.best["bma"][0] == history["val_bma"].idxmax()
    assert set(predictions["checkpoint"]) == {"loss", "accuracy", "bma"}
    counts = predictions.groupby(["checkpoint", "split"]).size()
    assert (counts == 16).all()
    assert predictions.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)


def test_generated_images_join_the_training_part_only(data, monkeypatch):
    trial, *_ = run(data, monkeypatch, generated="AK", epochs=1)
    assert len(trial.train) == 48 + 6 and (trial.train[48:] == np.arange(80, 86)).all()
    assert (trial.labels[80:] == "AK").all()
    assert max(trial.rows["test"].max(), trial.rows["val"].max()) < 80


def test_oversampling_shows_each_class_as_often_as_the_largest(data):
    """Of 48 images 11 are nevi and one is AK: an epoch draws eight times 11, each class as likely."""
    table = pd.read_csv(data / "sorted/isic2019.csv")
    table.loc[table.index[:48][table["label"][:48] == "AK"][1:], "label"] = "NV"
    table.to_csv(data / "sorted/isic2019.csv", index=False)

    def drawn(epochs: int = 1, **changes) -> np.ndarray:
        one = block(**changes)
        trial = experiment.Experiment(one, one.split, COMPUTE, data)
        batches = [targets.numpy() for epoch in range(epochs) for _, targets in trial.batches(epoch)[1]]
        return np.concatenate(batches)

    assert len(drawn(sampler="balanced")) == 88
    assert np.bincount(drawn(20, sampler="balanced")) / 20 == pytest.approx(11, abs=2.5)
    assert len(drawn(sampler="balanced", epoch_images=40)) == 40
    assert sorted(np.bincount(drawn())) == [1, 6, 6, 6, 6, 6, 6, 11]


def test_balanced_means_five_classes(data, monkeypatch):
    trial, _, _, predictions = run(data, monkeypatch, split="balanced", epochs=1)
    assert list(predictions.filter(like="p_"))[-1] == "p_AK+DF+VASC+SCC"
    assert set(trial.labels[80:]) <= {"AK+DF+VASC+SCC"} and set(trial.labels[:80]) >= {"AK+DF+VASC+SCC", "MEL"}


def test_a_diverging_loss_and_a_missing_class_are_named(data, monkeypatch):
    with pytest.raises(InputError, match="loss is not finite"):
        run(data, monkeypatch, optimizer="sgd", lr=10.0, epochs=30, weight_decay=1.0)
    table = pd.read_csv(data / "sorted/isic2019.csv")
    table.loc[(table["label"] == "DF") & (table["cv0"] == "val"), "cv0"] = "train"
    table.to_csv(data / "sorted/isic2019.csv", index=False)
    with pytest.raises(InputError, match="class DF has no image in the val part"):
        run(data, monkeypatch)


def test_a_weight_that_is_lost_in_the_last_step_is_named(data, monkeypatch):
    """The losses of an epoch are taken before its last step, so they do not show it."""

    class Poisoned(torch.optim.SGD):
        steps = 0

        def step(self, closure=None):
            super().step()
            self.steps += 1
            if self.steps == 6:  # 48 images in batches of 8
                self.param_groups[0]["params"][0].data.fill_(float("nan"))

    monkeypatch.setitem(schedules.OPTIMIZERS, "sgd", Poisoned)
    with pytest.raises(InputError, match=r"the loss is not finite in epoch 1; expected a smaller lr"):
        run(data, monkeypatch, optimizer="sgd", epochs=1)


def test_an_array_of_another_length_is_named(data):
    with pytest.raises(InputError, match=r"classify\.npy: 80 images for 81 rows"):
        files.read_array(data / "resized/isic2019/classify.npy", 81)
