"""Schedules against their published formulas, and the learning-rate range test."""

import math
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lesions.core.errors import InputError
from lesions.training import range_test, schedules
from lesions.training.config import Optimisation, Phase
from lesions.training.hardware import Switches

CPU = torch.device("cpu")
NAMES = get_args(Optimisation.model_fields["schedule"].annotation)


def chosen(**changes) -> Optimisation:
    base = {"epochs": 1, "batch": 8, "optimizer": "adam", "lr": 1.0, "weight_decay": 0.0, "schedule": "onecycle"}
    return Optimisation(**{**base, "augment": [], "seed": 0, **changes})


def rates(name: str, steps: int, start: tuple[float, ...] = (0.1,), train: str = "all", **changes) -> np.ndarray:
    """The rate of each group at each step: float steps×groups, two steps an epoch where they are even."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in start]
    optimizer, each = torch.optim.SGD(groups, momentum=0.9), 1 + (steps % 2 == 0)
    phase = Phase(epochs=steps // each, lr=start[0], train=train)
    schedule, found = schedules.schedule_for(optimizer, chosen(schedule=name, **changes), phase, each), []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return np.array(found)


def test_none_is_constant():
    assert (rates("none", 7) == 0.1).all()


def test_step_drops_to_a_fifth_after_three_quarters():
    found = rates("step", 20)[:, 0]
    assert found == pytest.approx([0.1] * 15 + [0.02] * 5)


def test_step_drops_every_so_many_epochs_as_study_e_has_it():
    """StepLR(15, .2) over 40 epochs of two steps."""
    found = rates("step", 80, drop_every=15)[:, 0]
    assert found == pytest.approx([0.1] * 30 + [0.02] * 30 + [0.004] * 20)


def test_cosine_follows_its_formula():
    found = rates("cosine", 40)[:, 0]
    assert found == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 40)) for t in range(40)], abs=1e-9)
    assert found[0] == 0.1 and found[20] == pytest.approx(0.05)


def test_restarts_follow_sgdr():
    """η_min + ½ (η_max − η_min)(1 + cos(π T_cur / T_i)) with T_i = 10: whole at every start, half in the middle."""
    found = rates("restarts", 30, cycles=3)[:, 0]
    assert found == pytest.approx([0.05 * (1 + math.cos(math.pi * (t % 10) / 10)) for t in range(30)])
    assert found[[0, 10, 20]] == pytest.approx(0.1) and found[[5, 15, 25]] == pytest.approx(0.05)
    assert found[[9, 19, 29]] == pytest.approx(0.05 * (1 + math.cos(0.9 * math.pi)))
    assert rates("restarts", 30) == pytest.approx(rates("cosine", 30), abs=1e-9)


@pytest.mark.parametrize("name", ["cosine", "restarts"])
def test_a_cosine_ends_at_the_lowest_rate(name):
    found = rates(name, 40, cycles=2, lr_min=0.02)[:, 0]
    length = 40 if name == "cosine" else 20
    wanted = [0.02 + 0.04 * (1 + math.cos(math.pi * (t % length) / length)) for t in range(40)]
    assert found == pytest.approx(wanted)


def test_the_head_alone_has_one_cycle():
    assert rates("restarts", 24, cycles=4, train="head") == pytest.approx(rates("restarts", 24))


def test_cycles_end_where_the_rate_restarts():
    assert schedules.cycle_ends(30, 3) == [10, 20, 30] and schedules.cycle_ends(7, 1) == [7]
    found = rates("restarts", 24, cycles=4)[:, 0]
    assert [t for t in range(1, 24) if found[t] > found[t - 1]] == schedules.cycle_ends(24, 4)[:-1]
    with pytest.raises(InputError, match="epochs 20 in 3 cycles"):
        schedules.cycle_ends(20, 3)


def test_onecycle_is_smiths_with_fastais_values():
    """Up from η/25 along a cosine in the first 30 %, down to η/250,000; the momentum from .95 to .85 and back."""
    found = rates("onecycle", 101)[:, 0]
    top = 0.3 * 101 - 1
    up = [0.1 / 25 + (0.1 - 0.1 / 25) * 0.5 * (1 - math.cos(math.pi * t / top)) for t in range(int(top) + 1)]
    last = 0.1 / 250_000
    down = [
        last + (0.1 - last) * 0.5 * (1 + math.cos(math.pi * (t - top) / (100 - top))) for t in range(int(top) + 1, 101)
    ]
    assert found == pytest.approx(up + down)
    assert found[0] == pytest.approx(0.004) and found[-1] == pytest.approx(4e-7)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedules.schedule_for(optimizer, chosen(), Phase(epochs=1, lr=0.1, train="all"), 10)
    assert optimizer.param_groups[0]["betas"][0] == 0.95


@pytest.mark.parametrize("name", NAMES)
def test_groups_keep_their_ratio_and_one_step_is_enough(name):
    found = rates(name, 12, start=(0.1, 0.01), cycles=2)
    assert found[:, 0] == pytest.approx(10 * found[:, 1])
    assert rates(name, 1).shape == (1, 1)


class Noisy(nn.Module):
    """A regression with all that has state: batch normalisation, a frozen one, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.1))
        self.fc = nn.Linear(4, 1)
        self.body[3].requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean(dim=(2, 3)))


@pytest.fixture
def recipe() -> Optimisation:
    return chosen()


def model() -> Noisy:
    torch.manual_seed(0)
    return Noisy()


def batch():
    """Return a batch, always the same: the target is the mean red."""
    images = torch.rand(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return images, images[:, 0].mean(dim=(1, 2))[:, None] * 3


def find(network: nn.Module, recipe: Optimisation, steps: int = 20, given=None, loss_of=nn.functional.mse_loss):
    recipe = recipe.model_copy(update={"range_steps": steps})
    return range_test.find(network, recipe, Switches(), CPU, given or batch(), loss_of)


def test_the_body_has_a_rate_of_its_own(recipe):
    """Study C's U-Net: 3e-4 for the head, 3e-5 for the body."""
    network = model()
    optimizer = schedules.optimizer_for(network, recipe, 3e-4, body_lr=3e-5)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, weight in network.named_parameters():
        wanted = 3e-4 if name.startswith("fc") else 3e-5
        assert rate_of.get(id(weight)) == (wanted if weight.requires_grad else None)


def test_the_rate_grows_by_a_factor_until_the_loss_diverges(recipe, monkeypatch):
    monkeypatch.setattr(range_test, "HIGHEST", 1e4)
    table = find(model(), recipe.model_copy(update={"optimizer": "sgd"}), steps=80)
    assert list(table) == ["lr", "loss"] and len(table) < 80
    assert table["lr"].to_numpy() == pytest.approx(np.geomspace(1e-7, 1e4, 80)[: len(table)])
    assert np.isfinite(table).all().all() and table["loss"].max() <= 4 * table["loss"].iloc[0]
    lowest = table["lr"].iloc[table["loss"].argmin()]
    assert 1e-5 < range_test.suggestion(table) < lowest
    monkeypatch.setattr(range_test, "HIGHEST", 1e-4)
    whole = find(model(), recipe)
    assert len(whole) == 20 and whole["lr"].iloc[-1] == pytest.approx(1e-4)


def test_model_and_random_state_are_as_they_were(recipe):
    network = model()
    network.body[1].eval()
    before, modes = {k: v.clone() for k, v in network.state_dict().items()}, [m.training for m in network.modules()]
    state = torch.get_rng_state()
    find(network, recipe)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert [m.training for m in network.modules()] == modes
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_model_is_restored_after_an_error_too(recipe):
    network = model()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    table = find(network, recipe, loss_of=lambda x, y: (x * math.nan).mean())
    assert table.empty
    broken = torch.zeros(8, 9, 4, 4), torch.zeros(8, 1)  # nine channels
    with pytest.raises(RuntimeError):
        find(network, recipe, given=broken)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_frozen_batch_norm_is_frozen_in_the_test_as_in_training(recipe):
    network, seen = model(), []
    network.body[3].register_forward_hook(
        lambda module, *_: seen.append((module.training, module.running_mean.clone()))
    )
    find(network, recipe, steps=20)
    assert not any(training for training, _ in seen) and all(torch.equal(mean, seen[0][1]) for _, mean in seen)


def test_two_tests_agree(recipe):
    first, again = (find(model(), recipe, steps=40) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)


def test_the_suggestion_is_where_half_of_the_fall_is_done():
    lr, step = np.geomspace(1e-6, 1, 100), np.arange(100)
    loss = (
        1 - 0.6 / (1 + np.exp(-(step - 60) / 4)) + np.exp((step - 95) / 2)
    )  # half at step 60, the steepest; then a rise
    assert range_test.suggestion(range_test.table(list(zip(lr, loss, strict=True)))) == pytest.approx(lr[60], rel=0.2)
    assert range_test.suggestion(range_test.table([(1e-3, 1.0), (1e-2, 0.8), (1e-1, 0.4), (1.0, 0.0)])) == 1e-1


@pytest.mark.parametrize("rows", [[], [(1e-7, 1.0)], [(1e-7, 1.0), (1e-6, 1.5)]])
def test_a_loss_that_does_not_fall_suggests_nothing(rows):
    with pytest.raises(InputError, match="loss fell at no rate"):
        range_test.suggestion(range_test.table(rows))


def test_the_picture_marks_the_suggestion(recipe, tmp_path, monkeypatch):
    table, drawn, save = find(model(), recipe, steps=20), list[Figure](), Figure.savefig

    def saved(figure: Figure, *args, **more) -> None:
        drawn.append(figure)
        save(figure, *args, **more)

    monkeypatch.setattr(Figure, "savefig", saved)
    range_test.draw({1: table, 3: table}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"range_1.png", "range_3.png"}
    (axis,), suggested = drawn[0].axes, range_test.suggestion(table)
    loss, marked = axis.get_lines()
    assert axis.get_xscale() == "log" and loss.get_ydata() == pytest.approx(table["loss"])
    assert marked.get_xdata()[0] == suggested and marked.get_label() == f"suggested: {suggested:.1e}"
