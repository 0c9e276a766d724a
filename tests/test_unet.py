"""The U-Net, its losses and scores, and the boxes of its masks."""

import numpy as np
import pytest
import torch

from lesions import params, unet
from lesions.feed import Feed
from stages import mask, segment

COMPUTE = params.Compute(threads=1, amp=True, compile=False, deterministic=True)


def test_logits_have_the_size_of_the_image_whatever_it_is():
    model = unet.build("resnet18").eval()
    with torch.inference_mode():
        for height, width in ((32, 64), (45, 70)):
            assert unet.forward(model, torch.zeros(1, 3, height, width)).shape == (1, 1, height, width)


def test_the_encoder_takes_torchvision_weights(tmp_path):
    import torchvision

    source = torchvision.models.resnet34().state_dict()
    torch.save(source, tmp_path / "resnet34")
    encoder = unet.build("resnet34", tmp_path / "resnet34").encoder.state_dict()
    assert set(encoder) == {k for k in source if not k.startswith("fc.")}
    assert all(torch.equal(v, source[k]) for k, v in encoder.items())


def test_losses_by_their_identities():
    torch.manual_seed(0)
    truth = (torch.rand(3, 1, 16, 16) > 0.6).float()
    perfect, inverted = (truth * 2 - 1) * 50, (1 - truth * 2) * 50
    assert unet.loss("jaccard", perfect, truth).item() == pytest.approx(0, abs=1e-6)
    assert unet.loss("jaccard", inverted, truth).item() == pytest.approx(1, abs=0.01)
    assert unet.loss("bce", torch.zeros_like(truth), truth).item() == pytest.approx(np.log(2), abs=1e-6)
    logits = torch.randn_like(truth)
    both = unet.loss("bce", logits, truth) + unet.loss("jaccard", logits, truth)
    assert unet.loss("bce_jaccard", logits, truth).item() == pytest.approx(both.item(), abs=1e-6)


def test_scores_count_pixels(monkeypatch):
    truth = np.zeros((2, 8, 8, 1), np.uint8)
    truth[0, :4], truth[1, :, :2] = 1, 1
    guess = torch.zeros(2, 8, 8)
    guess[0, 2:6], guess[1, :, :2] = 0.9, 0.9
    monkeypatch.setattr(unet, "probabilities", lambda model, images, compute: guess)
    images = Feed([np.zeros((2, 8, 8, 3), np.uint8)], torch.device("cpu"))
    masks = Feed([truth], torch.device("cpu"))
    _, jaccards, dices = unet.evaluate(None, images, masks, np.arange(2), 2, "bce", COMPUTE)
    assert jaccards == pytest.approx([16 / 48, 1]) and dices == pytest.approx([2 * 16 / 64, 1])


def test_boxes_hold_the_mask_and_nothing_more():
    one = np.zeros((10, 12), np.uint8)
    assert mask.box(one) == (0, 0, 10, 12)
    one[3:7, 5:6] = 1
    assert mask.box(one) == (3, 5, 7, 6)


def test_a_crop_is_put_where_it_was_in_the_photograph():
    """A photograph of a ramp at the U-Net's size; its middle square, at half of that, comes back to its place."""
    whole = torch.linspace(0, 200, 64).expand(1, 3, 48, 64).contiguous()
    crop = torch.nn.functional.interpolate(whole[..., 8:56], size=(24, 24), mode="bilinear", antialias=True)
    placed, (down, across) = mask.framed(crop, (48, 64), crops=True)
    assert placed.shape == whole.shape and (down, across) == (slice(0, 48), slice(8, 56))
    assert (placed - whole)[..., 10:54].abs().max() < 0.5
    assert (placed[..., :8] == placed[..., 8:9]).all() and (placed[..., 56:] == placed[..., 55:56]).all()
    squeezed, whereabouts = mask.framed(crop, (48, 64), crops=False)
    assert squeezed.shape == whole.shape and whereabouts == (slice(0, 48), slice(0, 64))
    tall, (down, across) = mask.framed(torch.zeros(2, 3, 30, 20), (48, 64), crops=True)
    assert tall.shape == (2, 3, 48, 64) and (down, across) == (slice(0, 48), slice(16, 48))


def test_the_examples_are_a_good_and_a_bad_one():
    assert segment.examples(np.array([0.1, 0.85, 0.95, 0.9, 0.5])) == {"good": 3, "bad": 0}
    assert segment.examples(np.array([0.6, 0.7])) == {"good": 1, "bad": 0}
