"""No step of a training asks for what the host waits for: told on a GPU of shapes without values (tests/fake_gpu.py).

Autograd's backward pass cannot run there: gradients without values take its place. Autocast is off there.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks import data
from lesions.batches import augment, photometric
from lesions.batches.feed import Feed, normalised
from lesions.classify.experiment import Experiment
from lesions.networks.build import MEAN, STD
from lesions.segment import unet
from lesions.segment.pairs import Pairs, loss_of
from lesions.tools import check
from lesions.training import hardware, loop
from tests.conftest import ROOT
from tests.fake_gpu import fake_gpu

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")
CUDA = torch.device("cuda")
CLASSIFIERS = ("vgg16", "residual", "c_resnet_arl", "c_b0_arl", "d_snap", "e_m7")
SIDE = 32


@pytest.fixture(scope="module")
def chosen():
    return check.load(ROOT / "params.yaml")


@pytest.fixture
def gpu(monkeypatch):
    """What is waited for on the fake GPU. A generator for it is the CPU's."""
    with fake_gpu():
        pass  # loads torch._dynamo, which names torch.Generator in types
    there = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: there())
    photometric.shared_out.cache_clear()
    with fake_gpu() as awaited:
        yield awaited
    photometric.shared_out.cache_clear()


def resident(feed: Feed) -> Feed:
    """`feed` as if its array lay on the GPU."""
    feed.device = CUDA
    feed.resident = torch.empty((len(feed), *feed.arrays[0].shape[1:]), dtype=torch.uint8, device=CUDA)
    return feed


def steps(monkeypatch, awaited, model, batches, recipe, compute, loss) -> int:
    """Three steps of training.fit; how often one waited between the first and the last."""

    class EnoughError(Exception):
        pass

    def backward(loss):
        assert loss.device.type == "cuda"
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight)

    def few(epoch, start):
        count, stream = batches(epoch, start)

        def three():
            awaited.clear()
            for number, batch in enumerate(stream):
                if number == 3:
                    raise EnoughError
                assert all(part.device.type == "cuda" for part in batch)
                yield batch

        return count, three()

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(model, "to", lambda *_, **__: model)  # it is there
    with pytest.raises(EnoughError):
        on = hardware.switches(compute, CUDA)
        loop.fit(model, recipe, on, CUDA, batches=few, loss_of=loss, validate=lambda _: {}, keep=(), name="gpu")
    return len(awaited)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_no_step_of_a_classifier_waits(name, chosen, gpu, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    block = chosen.classifiers[name].model_copy(update=data.SHORT | {"batch": 4, "epoch_images": 20})
    data.write(Path("data"), block, data.pixels(80, (SIDE, SIDE)))
    experiment = Experiment(block, block.split, chosen.compute, Path("data"))
    experiment.device = resident(experiment.feed).device
    with CUDA:
        model = experiment.model()
    run = (experiment.batches, block, chosen.compute, functional.cross_entropy)
    assert steps(monkeypatch, gpu, model, *run) == 0


def test_no_step_of_a_u_net_waits(chosen, gpu, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.save("some.npy", data.pixels(40, (SIDE, SIDE)))
    np.save("some_masks.npy", data.pixels(40, (SIDE, SIDE), ()) // 128)
    recipe = chosen.segment.model_copy(update={"batch": 4, "augment": ("dihedral", "rotate35", "lighting")})
    pairs = Pairs(Path("some.npy"), {"train": np.arange(40)}, 40, torch.device("cpu"), "resnet18")
    for feed in (pairs.images, pairs.masks):
        resident(feed)
    with CUDA:
        model = unet.build("unet", "resnet18", (SIDE, SIDE))
    run = (partial(pairs.batches, recipe), recipe, chosen.compute, loss_of("bce_jaccard"))
    assert steps(monkeypatch, gpu, model, *run) == 0


@pytest.mark.parametrize("name", augment.NAMES)
def test_no_augmentation_waits(name, gpu):
    side = 256 if name == "clahe" else SIDE  # tiles of more pixels than levels
    images = torch.empty(8, 3, side, side, dtype=torch.uint8, device=CUDA)
    changed, _ = augment.augmented((name,), images, None, torch.Generator())
    assert normalised(changed, MEAN, STD).device.type == "cuda" and gpu == []


def test_images_that_do_not_fit_on_the_gpu_come_from_pinned_memory(gpu):
    feed = Feed([data.pixels(9, (SIDE, SIDE)), data.pixels(40, (SIDE, SIDE))], torch.device("cpu"))
    feed.device = CUDA
    images = feed.batch(np.arange(5, 45))
    assert images.device.type == "cuda" and images.shape == (40, 3, SIDE, SIDE) and gpu == []


def test_what_waits_is_found(gpu):
    values = torch.empty(3, device=CUDA)
    values.copy_(torch.rand(3), non_blocking=True)
    torch.rand(3).to(CUDA, non_blocking=True)
    assert len(gpu) == 0
    torch.tensor([1.0], device=CUDA), torch.rand(3).to(CUDA), values.copy_(torch.rand(3)), values.cpu()
    assert len(gpu) == 4
    torch.zeros(2**15).to(CUDA, non_blocking=True), values[torch.tensor([0])], torch.eye(3, device=CUDA).inverse()
    assert len(gpu) == 7
    for wait in (values.sum().item, values.nonzero, lambda: values[values > 0], values.long().bincount):
        with pytest.raises(RuntimeError, match="aten"):
            wait()
