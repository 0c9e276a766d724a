"""Recipes beyond one run at one rate: phases, snapshots, several runs, views, a start from another block."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sklearn.metrics import roc_auc_score

from lesions.classify import experiment
from lesions.core.errors import InputError
from lesions.training import checkpoints, range_test
from stages import cross_validate, train
from tests.conftest import ROOT
from tests.test_training import COMPUTE, block, data, run  # noqa: F401  (data is a fixture)

PHASES = [{"epochs": 1, "lr": 1e-2, "train": "head"}, {"epochs": 2, "lr": 1e-3, "train": "all"}]


def moved(before: dict, after: dict) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_a_head_only_phase_moves_the_head_alone(data, monkeypatch):  # noqa: F811
    monkeypatch.chdir(data)
    trial = experiment.Experiment(block(phases=PHASES[:1]), "standard", COMPUTE, data)
    before = {name: value.clone() for name, value in trial.model().state_dict().items()}
    trial = experiment.Experiment(block(phases=PHASES[:1]), "standard", COMPUTE, data)  # the same seed again
    model, found = trial.fit("test")
    assert moved(before, model.state_dict()) == {"fc.weight", "fc.bias"}
    assert len(found.history) == 1


def test_phases_follow_one_another(data, monkeypatch):  # noqa: F811
    _, _, found, _ = run(data, monkeypatch, phases=PHASES, schedule="onecycle", epochs=9)
    assert list(found.history["epoch"]) == [1, 2, 3]


FOUND = [{"epochs": 1, "lr": "range", "train": "head"}, {"epochs": 2, "lr": "range", "train": "all_but_norm"}]


def test_study_ds_phases_find_their_own_rates(data, monkeypatch):  # noqa: F811
    """The head first, then all but batch norm, each at the rate of its range test; snapshots of the second alone."""
    recipe = {"phases": FOUND, "schedule": "restarts", "cycles": 2, "range_steps": 12, "snapshots": True}
    trial, _, found, _ = run(data, monkeypatch, **recipe)
    assert list(found.curves) == [1, 2] and all(len(curve) <= 12 for curve in found.curves.values())
    highest = [range_test.suggestion(curve) for curve in found.curves.values()]
    assert highest[0] != highest[1]
    mean = found.history["lr"].to_numpy()
    assert (mean <= [highest[0], highest[1], highest[1]]).all() and mean[1] == pytest.approx(mean[2])
    assert [name for name in found.best if name.startswith("snap")] == ["snapshot_1", "snapshot_2"]
    assert found.best["snapshot_1"][0] == 2 and trial.block.checkpoints[-2:] == ("snapshot_1", "snapshot_2")
    changed = moved(found.best["snapshot_1"][1], found.best["snapshot_2"][1])
    assert changed and not any("running" in key for key in changed)  # frozen norms keep their statistics


def test_the_rate_in_the_history_is_the_mean_of_an_epochs_steps(data, monkeypatch):  # noqa: F811
    _, _, found, _ = run(data, monkeypatch, epochs=2, lr=1e-3, schedule="none")
    assert found.history["lr"].to_list() == pytest.approx([1e-3, 1e-3])


def test_a_snapshot_is_the_state_at_the_end_of_a_cycle(data, monkeypatch):  # noqa: F811
    changes = {"schedule": "restarts", "epochs": 4, "cycles": 2}
    _, _, found, predictions = run(data, monkeypatch, snapshots=True, **changes)
    assert {name: found.best[name][0] for name in found.best if name.startswith("snap")} == {
        "snapshot_1": 2,
        "snapshot_2": 4,
    }
    assert moved(found.best["snapshot_1"][1], found.best["snapshot_2"][1])
    assert {"snapshot_1", "snapshot_2"} < set(predictions["checkpoint"])
    with pytest.raises(InputError, match="epochs 3 in 2 cycles"):
        run(data, monkeypatch, schedule="restarts", epochs=3, cycles=2, snapshots=True)


def test_views_do_not_see_which_way_an_image_lies(data, monkeypatch):  # noqa: F811
    trial, model, *_ = run(data, monkeypatch, epochs=1)
    rows = trial.rows["test"]
    straight = trial.predictor(model, trial.feed, rows, turned=True)
    images = np.load(data / "resized/isic2019/classify.npy")
    np.save(data / "resized/isic2019/classify.npy", np.ascontiguousarray(images[:, :, ::-1]))
    other = experiment.Experiment(block(), "standard", COMPUTE, data)
    mirrored = other.predictor(model, other.feed, rows, turned=True)
    assert mirrored == pytest.approx(straight, abs=1e-5)


def test_a_block_starts_from_the_state_of_another(data, monkeypatch):  # noqa: F811
    _, _, found, _ = run(data, monkeypatch, epochs=1)
    checkpoints.save(data / "models/train/first", found.best)
    trial = experiment.Experiment(block(weights="models/train/first/bma.pt"), "standard", COMPUTE, data)
    assert moved(trial.model().state_dict(), found.best["bma"][1]) == set()
    torch.save({"fc.weight": torch.zeros(1)}, data / "models/train/first/bma.pt")
    with pytest.raises(InputError, match=r"bma\.pt: not a state of this network"):
        trial.model()


def test_several_runs_are_one_file_and_scores_their_mean(data, monkeypatch):  # noqa: F811
    """The melanoma set: two classes, scored on its validation part; two seeds."""
    labels = np.array(["MEL", "NV", "BKL", "NV"] * 20)
    roles = np.where(np.arange(80) % 5 == 0, "val", "train")
    table = pd.DataFrame({"image": [f"I{i}" for i in range(80)], "lesion": range(80), "label": labels, "split": roles})
    table.to_csv(data / "sorted/isic2017.csv", index=False)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["resize"]["isic2017"]["arrays"]["classify"]["shape"] = [32, 32]
    one = {"family": "residual", "network": "residual", "recipe": "c", "set": "isic2017"}
    one |= {"images": "resized/isic2017/classify", "split": "melanoma", "generated": "none", "runs": 2, "seed": 5}
    one["weights"] = "data/weights/none"
    raw["classifiers"]["try"] = one | {"phases": [{"epochs": 1, "lr": 1e-3, "train": "all"}]}
    (data / "params.yaml").write_text(yaml.safe_dump(raw))
    (data / "resized/isic2017").mkdir()
    (data / "resized/isic2019/classify.npy").rename(data / "resized/isic2017/classify.npy")
    monkeypatch.chdir(data)
    monkeypatch.setattr(sys, "argv", ["train", "try"])
    monkeypatch.setattr(train, "DATA", Path())
    train.main()
    found = pd.read_csv("predictions/train/try.csv")
    assert set(found["seed"]) == {5, 6} and set(found["split"]) == {"val"} and set(found["label"]) == {"MEL", "OTHER"}
    scores = pd.read_csv("models/train/try/scores.csv").set_index("checkpoint")
    of = found[found["checkpoint"] == "accuracy"]
    hits = (of["p_MEL"] > of["p_OTHER"]) == (of["label"] == "MEL")
    assert scores.loc["accuracy", "accuracy"] == pytest.approx(hits.groupby(of["seed"]).mean().mean(), abs=1e-6)
    metrics = json.loads((data / "metrics/train/try.json").read_text())
    assert metrics == pytest.approx(scores.loc["bma", ["bma", "auc", "accuracy", "loss"]].to_dict(), abs=1e-6)
    assert {"loss", "accuracy", "bma", "auroc"} == set(scores.index) and set(scores["epoch"]) == {1}
    best = found[found["checkpoint"] == "bma"]
    areas = [roc_auc_score(of["label"] == "MEL", of["p_MEL"]) for _, of in best.groupby("seed")]
    assert metrics["auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    history = pd.read_csv("plots/train/try/history.csv")
    assert list(history["seed"]) == [5, 6]


def test_the_range_tests_of_a_fold_are_drawn(data, monkeypatch):  # noqa: F811
    table = pd.read_csv(data / "sorted/isic2019.csv")
    table.assign(cv1=table["cv0"]).to_csv(data / "sorted/isic2019.csv", index=False)
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["classifiers"]["residual"] |= {"phases": FOUND, "range_steps": 12, "epoch_images": 32, "schedule": "cosine"}
    (data / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(data)
    monkeypatch.setattr(sys, "argv", ["cross_validate", "residual-1"])
    monkeypatch.setattr(cross_validate, "DATA", Path())
    cross_validate.main()
    folder = data / "models/cross_validate/residual-1"
    assert {path.name for path in folder.iterdir()} == {"scores.csv", "range_1.png", "range_2.png"}
