"""The estimate's arithmetic against cases counted by hand, and one measurement."""

import sys
from pathlib import Path

import pytest
import yaml

from lesions.core import config
from lesions.tools import estimate
from lesions.tools.check import Params
from lesions.tools.estimate import FROZEN, PREDICTED, Cost, Kind
from lesions.tools.settings import overlaid
from tests.conftest import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
FULL = yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8"))
COUNT = {"isic2019": 1000, "isic2018": 300, "isic2017": 215, "merged": 1200}


def chosen(over: dict) -> Params:
    return config.validated(Params, overlaid(BASE, over), Path("params.yaml"))


def stage(name: str, over: dict) -> estimate.Stage:
    return estimate.stages(chosen(over), COUNT)[name]


def steps(name: str, over: dict) -> float:
    """Return the images whose steps a stage of one kind takes."""
    ((_, images),) = stage(name, over).steps
    return images


def test_parts_are_those_of_the_studies():
    base = chosen({})
    assert estimate.parts("standard", 1000, base) == pytest.approx({"train": 700, "val": 100, "test": 200})
    assert estimate.parts("cv3", 1000, base) == estimate.parts("standard", 1000, base)
    assert estimate.parts("eighty", 1000, base) == pytest.approx({"train": 800, "val": 100, "test": 100})
    assert estimate.parts("melanoma", 2150, base) == pytest.approx({"train": 2000, "val": 150, "test": 0})
    assert sum(estimate.parts("balanced", 25_331, base).values()) == pytest.approx(5 * 1987)
    assert sum(estimate.parts("ham", 25_331, base).values()) == pytest.approx(10_015)
    assert estimate.parts("ham_1", 25_331, base)["val"] == pytest.approx(2003)


def test_a_classifier_by_hand():
    """Ten epochs of 700 images, each validated on 100; three checkpoints each predict 100 + 200."""
    predicted, ten = PREDICTED * (10 * 100 + 3 * 300), {"epochs": 10, "sampler": "uniform"}
    assert steps("train@vgg16", {"classifiers": {"vgg16": ten | {"epoch_images": 0}}}) == pytest.approx(
        7000 + predicted
    )
    assert steps("train@vgg16", {"classifiers": {"vgg16": ten | {"epoch_images": 64}}}) == pytest.approx(
        640 + predicted
    )
    more = steps("train@vgg16", {"classifiers": {"vgg16": ten | {"epoch_images": 5000}}})
    assert more == pytest.approx(7000 + predicted)
    generated = steps("train@residual_gan", {"classifiers": {"residual_gan": ten | {"epoch_images": 0}}})
    assert generated == pytest.approx(7000 + 10 * BASE["augment_gan"]["images"] + predicted)


def test_phases_seeds_and_oversampling_by_hand():
    """Study C, ten seeds: 4 epochs of the head and 20 of all on 200 images, 15 validate, four checkpoints of them.

    Oversampled: of 2,000 images 1,626 are no melanomas, and as many melanomas are drawn.
    """
    predicted = PREDICTED * (24 * 15 + 4 * 15)
    assert steps("train@c_plain", FULL) == pytest.approx(10 * ((4 * FROZEN + 20) * 200 + predicted))
    assert steps("train@c_base", FULL) == pytest.approx(10 * ((4 * FROZEN + 20) * 2 * 162.6 + predicted))
    (kind, _), states = stage("train@c_base", FULL).steps[0], stage("train@c_base", FULL).states
    assert kind == Kind("classifier", "attention", "resnet50", (224, 224), 16) and states == 4


def test_views_at_test_time_and_folds_by_hand():
    """Study E predicts all its parts under eight views; a fold is one run, and keeps no state."""
    found = steps("train@e_m0", {"classifiers": {"e_m0": {"epochs": 4, "epoch_images": 0}}})
    assert found == pytest.approx(4 * 960 + PREDICTED * (4 * 120 + 8 * 3 * 1200))
    seven = {"epochs": 7, "epoch_images": 0, "sampler": "uniform"}
    fold = stage("cross_validate@residual-1", {"classifiers": {"residual": seven}})
    assert fold.steps[0][1] == pytest.approx(7 * 700 + PREDICTED * (7 * 100 + 3 * 300)) and fold.states == 0


def test_unets_by_hand():
    assert steps("segment", {"segment": {"epochs": 5}}) == pytest.approx(5 * 210 + PREDICTED * (5 * 30 + 2 * 60))
    legs = [{"array": "small", "train": "head", "epochs": 2}, {"array": "large", "train": "all_but_norm", "epochs": 3}]
    (small, first), (large, then) = stage("unet34@0", {"unet34": {"phases": legs, "range_steps": 10, "batch": 4}}).steps
    assert (small.size, large.size) == ((32, 32), (64, 64))
    assert first == pytest.approx(FROZEN * (2 * 160 + 40) + PREDICTED * 2 * 80)
    assert then == pytest.approx(3 * 160 + 40 + PREDICTED * 3 * 80)


def test_the_report_by_hand():
    """A second an image, 5 s of imports; resize and the like: 2,715 photographs at .03 s on the cores there are."""
    whole = chosen(FULL)
    planned = estimate.stages(whole, COUNT)
    costs = dict.fromkeys((kind for stage in planned.values() for kind, _ in stage.steps), Cost(1.0, 1e9, 1e6))
    lines = estimate.report(whole, COUNT, costs, 5.0, gpu=False)
    seconds = 5 * len(planned) + sum(images for stage in planned.values() for _, images in stage.steps)
    said = estimate.span(seconds + estimate.PICTURES * 2715 / estimate.usable())
    assert sum(line.startswith(f"in all: {said} one after the other") for line in lines) == 1
    assert any(line.startswith("cross_validate@vgg16-1 … vgg16-4 (4)") for line in lines) and len(lines) < len(planned)
    assert {f"train@{name}" for name in whole.classifiers} < set(planned)
    on_gpu = estimate.report(whole, COUNT, costs, 5.0, gpu=True)
    most = 1e9 + 3 * 300 * 768 * 1024  # the images of the U-Net lie on it
    assert any(line.endswith(f"{estimate.size(most)} of memory (GPU)") for line in on_gpu)


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (89, "89 s"), (90, "1.5 min"), (5400, "1.5 h"), (864000, "10.0 d")]
)
def test_spans_are_readable(seconds, said):
    assert estimate.span(seconds) == said


@pytest.mark.slow
def test_steps_are_measured_and_a_network_that_cannot_be_is_one_line():
    compute = chosen({"compute": {"device": "cpu", "threads": 1}}).compute
    kinds = [
        Kind("classifier", "residual", "residual", (16, 16), 4),
        Kind("unet", "unet", "resnet18", (32, 32), 2),
        Kind("classifier", "residual", "residual", (512, 512), 64),  # of which a part is run
    ]
    small, u_net, large = estimate.costs({"x": estimate.Stage(tuple((kind, 1.0) for kind in kinds))}, compute).values()
    for cost in (small, u_net):
        assert 0 < cost.step < 10 and 1e5 < cost.state < cost.memory < 1e10
    assert large.step > 10 * small.step and large.memory > 5e9 and large.state == small.state
    with pytest.raises(estimate.InputError, match=r"residul, 16×16, batch 4: not measured: .*unknown in family"):
        estimate.costs({"x": estimate.Stage(((kinds[0]._replace(network="residul"), 1.0),))}, compute)


def test_settings_are_laid_over_and_nothing_is_written(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    before = Path("params.yaml").read_bytes()
    monkeypatch.setattr(
        estimate, "costs", lambda planned, _: {k: Cost(1e-3, 1e9, 1e6) for s in planned.values() for k, _ in s.steps}
    )
    monkeypatch.setattr(sys, "argv", ["estimate", "settings/full.yaml"])
    estimate.main()
    assert "unet34@0 … 2 (3)" in capsys.readouterr().out and Path("params.yaml").read_bytes() == before
