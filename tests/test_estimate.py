"""The estimate's arithmetic against cases counted by hand, and one measurement."""

import sys
from pathlib import Path

import pytest
import yaml

from lesions import estimate, measure, params
from lesions.measure import Classifier, Cost, Gan, UNet
from lesions.settings import overlaid
from tests.conftest import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
FULL = yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8"))
COUNT = {"isic2019": 1000, "isic2018": 300, "isic2017": 215, "merged": 1200}


def chosen(over: dict) -> params.Params:
    return params.validated(overlaid(BASE, over), Path("params.yaml"))


def stage(name: str, over: dict, count: dict = COUNT) -> estimate.Stage:
    return next(stage for stage in estimate.stages(chosen(over), count) if stage.name == name)


def images(found: estimate.Stage) -> list[tuple[float, float]]:
    return [(pytest.approx(work.train), pytest.approx(work.predict)) for work in found.work]


def test_parts_are_those_of_the_studies():
    sort = params.Sort(seed=0, folds=5, validation=0.125)
    assert estimate.parts("standard", 1000, sort) == {"train": 700, "val": 100, "test": 200}
    assert estimate.parts("cv3", 1000, sort) == estimate.parts("standard", 1000, sort)
    assert estimate.parts("eighty", 1000, sort) == {"train": 800, "val": 100, "test": 100}
    assert estimate.parts("melanoma", 2150, sort) == pytest.approx({"train": 2000, "val": 150, "test": 0})
    assert sum(estimate.parts("balanced", 25_331, sort).values()) == pytest.approx(5 * 1987)
    assert sum(estimate.parts("ham", 25_331, sort).values()) == pytest.approx(10_015)
    assert estimate.parts("ham_1", 25_331, sort)["val"] == pytest.approx(2003)


def test_a_classifier_by_hand():
    """Ten epochs of 700 images, each validated on 100; three checkpoints each predict 100 + 200."""
    found = stage("train@vgg16", {"classifiers": {"vgg16": {"epochs": 10, "epoch_images": 0, "sampler": "uniform"}}})
    assert images(found) == [(10 * 700, 10 * 100 + 3 * 300)]
    drawn = stage("train@vgg16", {"classifiers": {"vgg16": {"epochs": 10, "epoch_images": 64}}})
    assert images(drawn) == [(10 * 64, 10 * 100 + 3 * 300)]
    more = {"classifiers": {"vgg16": {"epochs": 10, "epoch_images": 5000, "sampler": "uniform"}}}
    assert images(stage("train@vgg16", more)) == [(10 * 700, 10 * 100 + 3 * 300)]


def test_generated_images_are_trained_on():
    once = {"epochs": 1, "epoch_images": 0, "sampler": "uniform"}
    found = stage("train@residual_gan", {"classifiers": {"residual_gan": once}})
    assert images(found) == [(700 + BASE["augment_gan"]["images"], 100 + 3 * 300)]


def test_phases_and_runs_by_hand():
    """Study C, ten seeds: 4 epochs of the head and 20 of all on 200 images, 15 validate, four checkpoints of them.

    Oversampled: of 2,000 images 1,626 are no melanomas, and as many melanomas are drawn.
    """
    found, shown = stage("train@c_base", FULL), 2 * 162.6
    assert images(found) == [
        (pytest.approx(10 * 4 * shown), 10 * (4 * 15 + 4 * 15)), (pytest.approx(10 * 20 * shown), 10 * 20 * 15)
    ]  # fmt: skip
    plain = stage("train@c_plain", FULL)
    assert images(plain) == [(10 * 4 * 200, 10 * (4 * 15 + 4 * 15)), (10 * 20 * 200, 10 * 20 * 15)]
    assert [work.kind.train for work in found.work] == ["head", "all"]
    assert found.work[0].kind.size == (224, 224) and found.states == 4


def test_views_at_test_time_by_hand():
    """Study E: train once, val and test under eight views; 4 epochs of 960, 120 and 120."""
    found = stage("train@e_m0", {"classifiers": {"e_m0": {"epochs": 4, "epoch_images": 0}}})
    assert images(found) == [(4 * 960, 4 * 120 + 3 * (960 + 8 * 120 + 8 * 120))]


def test_snapshots_are_kept_and_predict():
    found = stage("train@d_snap", {"recipes": {"d": {"epochs": 4, "cycles": 2, "epoch_images": 10}}})
    here = estimate.parts("ham", 1000, chosen({}).sort)
    assert found.states == 5
    assert images(found) == [(4 * 10, 4 * here["val"] + 5 * (here["val"] + here["test"]))]


def test_a_fold_is_one_run_and_keeps_no_state():
    seven = {"epochs": 7, "epoch_images": 0, "sampler": "uniform"}
    found = stage("cross_validate@residual-1", {"classifiers": {"residual": seven}})
    assert images(found) == [(7 * 700, 7 * 100 + 3 * 300)] and found.states == 0


def test_unets_by_hand():
    found = stage("segment", {"segment": {"epochs": 5}})
    assert images(found) == [(5 * 210, 5 * 30), (0, 2 * 60)]
    legs = [{"array": "small", "train": "head", "epochs": 2}, {"array": "large", "train": "all_but_norm", "epochs": 3}]
    grown = stage("unet34@0", {"unet34": {"phases": legs, "range_steps": 10, "batch": 4}})
    assert images(grown) == [(2 * 160 + 40, 2 * 80), (3 * 160 + 40, 3 * 80), (0, 80 + 60)]
    assert [work.kind.size for work in grown.work] == [(32, 32), (64, 64), (64, 64)]


def test_time_disk_and_memory_by_hand():
    kind, other = Classifier("vgg16", (8, 8), 4, (), "adam", 0.0, "all"), Gan(4, 100, "tensorflow")
    costs = {kind: Cost(0.5, 0.1, 7e9, 2e6), other: Cost(1.0, 0.0, 1e9, 3e6)}
    planned = estimate.Stage("train@x", (estimate.Work(kind, 10, 20),), written=5e6, read=1e9, states=3)
    found = estimate.estimate(planned, costs, {False: 3.0, True: 9.0}, resident=False)
    assert (found.time, found.disk, found.memory) == (3 + 5 + 2, 5e6 + 6e6, 7e9)
    assert estimate.estimate(planned, costs, {False: 3.0, True: 9.0}, resident=True).memory == 8e9
    keras = estimate.Stage("augment_gan", (estimate.Work(other, 10, 0),))
    assert estimate.estimate(keras, costs, {False: 3.0, True: 9.0}, resident=False).time == 19


def test_every_stage_that_trains_is_in_it_and_alike_ones_share_a_line():
    whole = chosen(FULL)
    planned = estimate.stages(whole, COUNT)
    names = {stage.name for stage in planned}
    assert {f"train@{name}" for name in whole.classifiers} | {
        f"cross_validate@{k}" for k in whole.cross_validate
    } < names
    costs = dict.fromkeys(estimate.kinds(planned), Cost(1.0, 1.0, 1e9, 1e6, True))
    lines = estimate.report(whole, planned, costs, {False: 1.0, True: 2.0}, gpu=False)
    assert any(line.startswith("cross_validate@vgg16-1 … vgg16-4 (4)") for line in lines)
    assert sum(line.startswith("in all: ") for line in lines) == 1
    assert len(lines) < len(names)


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "5 s"), (89, "89 s"), (90, "1.5 min"), (5400, "1.5 h"), (864000, "10.0 d")]
)
def test_spans_are_readable(seconds, said):
    assert estimate.span(seconds) == said


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        Classifier("residual", (16, 16), 4, ("hflip",), "adam", 0.0, "all"),
        UNet("resnet18", (32, 32), 2, ("hflip",), "adam", "bce", "head"),
    ],
)
def test_a_step_is_measured(kind):
    cost = measure.measured(kind, chosen({"compute": {"device": "cpu", "threads": 1}}).compute)
    assert 0 < cost.predict < cost.train < 10 and 1e5 < cost.state < cost.memory < 1e10 and not cost.extrapolated


def test_a_large_batch_is_measured_on_fewer_images_and_its_memory_extrapolated(monkeypatch):
    """A step of 1 s and 10 bytes an image, before which 100 bytes are taken, 40 of them by four copies of the state."""
    taken, tried = [60.0], []
    monkeypatch.setattr(measure, "peak", lambda cuda: taken[-1])

    def trial(batch: int):
        tried.append(batch)
        taken.append(100.0 + 10 * batch)
        stamps = measure.Stamps(False)
        stamps.times = [0.0, 9.0, 9.0 + batch, 9.0 + 2 * batch]
        return stamps, 0.5, 10.0

    found = measure.by_batch(trial, 64, (512, 512), cuda=False)
    assert tried == [2] and found == Cost(1.0, 0.5, 100 + 640, 10.0, True)
    assert not measure.by_batch(trial, 64, (8, 8), cuda=False).extrapolated


def test_settings_are_laid_over_and_nothing_is_written(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    before = Path("params.yaml").read_bytes()
    monkeypatch.setattr(measure, "measured", lambda kind, compute: Cost(1e-3, 1e-3, 1e9, 1e6))
    monkeypatch.setattr(measure, "startup", lambda module, backend: 1.0)
    monkeypatch.setattr(sys, "argv", ["estimate", "settings/full.yaml"])
    estimate.main()
    assert "unet34@0 … 2 (3)" in capsys.readouterr().out and Path("params.yaml").read_bytes() == before
