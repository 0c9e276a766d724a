"""The estimate's arithmetic against cases counted by hand, and one measurement."""

import sys
from pathlib import Path

import pytest
import yaml

from lesions.core import config
from lesions.core.errors import InputError
from lesions.raw.config import Data
from lesions.tools import estimate, sizes
from lesions.tools.check import Params
from lesions.tools.estimate import PREDICTED, Cost, Kind, Work
from lesions.tools.settings import overlaid
from tests.conftest import ROOT

BASE = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
FULL = yaml.safe_load((ROOT / "settings/full.yaml").read_text(encoding="utf-8"))
COUNT = {"isic2019": 1000, "isic2018": 300, "isic2017": 215, "merged": 1200}


def chosen(over: dict) -> Params:
    return config.validated(Params, overlaid(BASE, over), Path("params.yaml"))


def work(name: str, over: dict) -> Work:
    (found,) = (one for one in estimate.works(chosen(over), COUNT) if one.stage == name)
    return found


def steps(name: str, over: dict) -> float:
    return work(name, over).steps


def test_parts_are_those_of_the_studies():
    assert estimate.parts("standard", 1000) == pytest.approx({"train": 700, "val": 100, "test": 200})
    assert estimate.parts("eighty", 1000) == pytest.approx({"train": 800, "val": 100, "test": 100})
    assert estimate.parts("melanoma", 2150) == pytest.approx({"train": 2000, "val": 150, "test": 0}, rel=0.01)
    assert sum(estimate.parts("balanced", 25_331).values()) == pytest.approx(5 * 1987)
    assert sum(estimate.parts("ham_1", 25_331).values()) == pytest.approx(10_015)


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
    """Study C, ten seeds: 24 epochs on 200 images, 15 validate, four checkpoints of them.

    Oversampled: of 2,000 images 1,626 are no melanomas, and as many melanomas are drawn.
    """
    predicted = PREDICTED * (24 * 15 + 4 * 15)
    assert steps("train@c_plain", FULL) == pytest.approx(10 * (24 * 200 + predicted), rel=0.01)
    assert steps("train@c_base", FULL) == pytest.approx(10 * (24 * 2 * 162.6 + predicted), rel=0.01)
    found = work("train@c_base", FULL)
    assert found.kind == Kind("classifier", "attention", "resnet50", (224, 224), 16) and found.states == 4


def test_views_at_test_time_and_folds_by_hand():
    """Study E predicts validation and test under eight views, training under one; a fold keeps no state."""
    found = steps("train@e_m0", {"classifiers": {"e_m0": {"epochs": 4, "epoch_images": 0}}})
    assert found == pytest.approx(4 * 960 + PREDICTED * (4 * 120 + 4 * (960 + 8 * 240)))
    seven = {"epochs": 7, "epoch_images": 0, "sampler": "uniform"}
    fold = work("cross_validate@residual-1", {"classifiers": {"residual": seven}})
    assert fold.steps == pytest.approx(7 * 700 + PREDICTED * (7 * 100 + 3 * 300)) and fold.states == 0


def test_range_tests_are_counted():
    phases = [{"epochs": 2, "lr": lr, "train": "all"} for lr in ("range", "range", 1e-3)]
    plain, tested = (
        steps("train@e_m0", {"classifiers": {"e_m0": {"range_steps": n, "batch": 16, "phases": phases}}})
        for n in (10, 60)
    )
    assert tested - plain == pytest.approx(2 * 50 * 16)


def test_unets_by_hand():
    assert steps("segment", {"segment": {"epochs": 5}}) == pytest.approx(5 * 210 + PREDICTED * (5 * 30 + 2 * 60))
    phases = [
        {"array": "small", "train": "head", "epochs": 2},
        {"array": "large", "train": "all_but_norm", "epochs": 3},
    ]
    over = {"unet34": {"phases": phases, "range_steps": 10, "batch": 4}}
    small, large = work("unet34@0, small", over), work("unet34@0, large", over)
    assert (small.kind.size, large.kind.size) == ((32, 32), (64, 64)) and (small.states, large.states) == (0, 1)
    assert small.steps == pytest.approx(2 * 160 + 40 + PREDICTED * 2 * 80)
    assert large.steps == pytest.approx(3 * 160 + 40 + PREDICTED * 3 * 80)


def test_amounts_are_of_all_phases_and_a_unet_has_more_to_do():
    names = ["segment@isic2018", "unet34@0", "unet34@1", "train@alexnet", "check"]
    found, planned = estimate.amounts(names, chosen({})), estimate.works(chosen({}), COUNT)
    assert set(found) == set(names) - {"check"} and found["unet34@0"] == found["unet34@1"]
    areas = {one.stage: one.steps * one.kind.size[0] * one.kind.size[1] for one in planned}
    ratio = found["segment@isic2018"] / found["train@alexnet"]
    assert ratio == pytest.approx(estimate.AS_MUCH * areas["segment"] / areas["train@alexnet"], rel=0.5)


def test_the_report_by_hand():
    """A second an image; resize and the like: the photographs at .03 s on the cores there are."""
    whole = chosen(FULL)
    planned = estimate.works(whole, COUNT)
    found = dict.fromkeys((one.kind for one in planned), Cost(1.0, 1e9, 1e6))
    said = estimate.report(whole, planned, found, gpu=False)
    pictures = sum(sizes.images(whole.data)[name] for name in whole.resize)
    seconds = estimate.START * len(planned) + sum(one.steps for one in planned)
    whole_time = estimate.tqdm.format_interval(seconds + estimate.PICTURES * pictures / estimate.usable())
    assert f"in all: {whole_time} one after the other" in said and "1.00GB of memory" in said
    (folds,) = (line.split() for line in said.splitlines() if line.endswith("cross_validate@residual-1"))
    assert folds[1:4] == ["0.00B", "1.00GB", str(len(whole.cross_validate))]  # which take the same here
    assert {f"train@{name}" for name in whole.classifiers} < {one.stage for one in planned}
    on_gpu = estimate.report(whole, planned, found, gpu=True)
    assert f"{estimate.size(1e9 + 3 * 300 * 768 * 1024)} of memory (GPU)" in on_gpu  # the U-Net's images lie on it


@pytest.mark.slow
def test_steps_are_measured_and_a_network_that_cannot_be_is_one_line():
    compute = chosen({"compute": {"device": "cpu", "threads": 1}}).compute
    kinds = [
        Kind("classifier", "residual", "residual", (16, 16), 4),
        Kind("unet", "unet", "resnet18", (32, 32), 2),
        Kind("classifier", "residual", "residual", (512, 512), 64),  # of which a part is run
    ]
    small, u_net, large = estimate.costs([Work("x", kind, 1.0) for kind in kinds], compute).values()
    for cost in (small, u_net):
        assert 0 < cost.step < 10 and 1e5 < cost.state < cost.memory < 1e10
    assert large.step > 10 * small.step and large.memory > 5e9 and large.state == small.state
    with pytest.raises(estimate.InputError, match=r"network='residul', .*: not measured: .*residul"):
        estimate.costs([Work("x", kinds[0]._replace(network="residul"), 1.0)], compute)


def test_settings_are_laid_over_and_nothing_is_written(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    before = Path("params.yaml").read_bytes()
    monkeypatch.setattr(estimate, "costs", lambda planned, _: {one.kind: Cost(1e-3, 1e9, 1e6) for one in planned})
    monkeypatch.setattr(sys, "argv", ["estimate", "settings/full.yaml"])
    estimate.main()
    assert "unet34@0, small" in capsys.readouterr().out and Path("params.yaml").read_bytes() == before


def test_a_set_whose_table_is_elsewhere_cannot_be_counted(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    found = sizes.images(chosen_data("https://clinic.example/isic"))
    assert found["ham"] == 0
    monkeypatch.setattr(sys, "argv", ["estimate", "settings/ham.yaml"])
    with pytest.raises(InputError, match=r"data\.sets\.ham: HAM10000_metadata\.csv: not there, so its images"):
        estimate.main()


def chosen_data(source: str) -> Data:
    own = {"pictures": ["a"], "table": "list.csv"}
    return Data.model_validate(BASE["data"] | {"source": source, "sets": {"ham": own}})
