"""Killed at any moment, a stage goes on where it was and ends with the same bytes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lesions.classify import experiment
from lesions.compare.config import Compare
from lesions.core import resume
from lesions.training import checkpoints
from tests import dag
from tests.conftest import ROOT, hear_sigint
from tests.test_training import COMPUTE, block, data  # noqa: F401  data: a fixture

KILLS = int(os.environ.get("LESIONS_KILLS", "3"))  # at random moments, of each kind of run
SAVED = (".pt", ".npz")
SECTIONS = [Compare(confidence=0.9)]


class Killed(Exception):  # noqa: N818
    """Stands for the end of a process."""


def begun(folder: Path, sections=SECTIONS, inputs=(), device="cpu"):
    return resume.begin("train-x", sections, [folder / name for name in inputs], device)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "input").write_text("one")
    return tmp_path


def left() -> list[Path]:
    return sorted(Path(".checkpoints").glob("*/*"))


def test_a_killed_run_finds_its_own_and_a_changed_one_nothing(here):
    changes = [
        {"sections": [Compare(confidence=0.8)]}, {"device": "another GPU"}, {"inputs": ()},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(Killed), begun(here, inputs=["input"]) as run:
            run.save(lambda folder: (folder / "state").write_text("s"))
            raise Killed
        with begun(here, inputs=["input"]) as again:
            assert again.folder == run.folder and (again.folder / "state").read_text() == "s"
        with begun(here, **({"inputs": ["input"]} | change)) as other:
            assert other.folder != run.folder and not (other.folder / "state").exists()
            assert left() == [other.folder], "what another fingerprint left is removed"
        assert left() == [] and not Path(".checkpoints").exists()


def test_an_input_of_other_bytes_is_another_run(here):
    with begun(here, inputs=["input"]) as run:
        pass
    (here / "input").write_text("two")
    with begun(here, inputs=["input"]) as other:
        assert other.folder != run.folder


def test_a_source_of_other_bytes_is_another_run(here, monkeypatch):
    with begun(here) as run:
        pass
    monkeypatch.setattr(resume, "sources", lambda: {"lesions/training/loop.py": "other"})
    with begun(here) as other:
        assert other.folder != run.folder


OF_A_STAGE = """
import json, sys
from pathlib import Path
from lesions.classify import experiment
from lesions.classify.config import classifier
from lesions.core import resume
from stages import train

experiment.inputs(classifier("vgg16"), Path())
before = resume.sources()
for path in before:
    Path(path).write_text(Path(path).read_text() + "#")
after = resume.sources()
print(json.dumps([path for path in before if before[path] != after[path]]))
"""


def test_every_source_that_a_stage_imports_is_in_its_fingerprint(tmp_path):
    """Wing by wing, its network's family too."""
    for name in ("lesions", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    found = json.loads(subprocess.check_output([sys.executable, "-c", OF_A_STAGE], cwd=tmp_path, env=environment))
    imported = dag.imported(ROOT / "stages/train.py") | {"stages/train.py", "lesions/networks/torchvision.py"}
    assert len(imported) > 20 and imported <= set(found)


def test_done_stays_until_dvc_has_committed(here):
    def run_once():
        with begun(here) as run:
            run.save(lambda folder: (folder / "state").write_text("s"))

    run_once()
    assert len(left()) == 1
    resume.sweep(Path(".checkpoints"), Path("dvc.lock"))
    assert len(left()) == 1, "DVC has committed nothing yet"
    Path("dvc.lock").touch()
    os.utime("dvc.lock", (time.time() + 5,) * 2)
    resume.sweep(Path(".checkpoints"), Path("dvc.lock"))
    assert not Path(".checkpoints").exists()


def test_a_second_process_waits_for_the_first(here):
    code = (
        "import sys; from lesions.core import resume; from lesions.compare.config import Compare\n"
        "with resume.begin('train-x', [Compare(confidence=0.9)], [], 'cpu') as run:\n"
        "    print('in', flush=True); sys.stdin.readline()\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first, second = (subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) for _ in range(2))
    try:
        time.sleep(0.1)
        entered, other = (first, second) if ready(first, second) is first else (second, first)
        assert entered.stdout.readline() == "in\n"
        assert "waiting for it to end" in other.stderr.readline()
        entered.kill()
        assert other.stdout.readline() == "in\n", "the lock ends with the process"
        other.communicate("\n", timeout=120)
        assert other.returncode == 0
    finally:
        for process in (first, second):
            process.kill()


def ready(*processes: subprocess.Popen) -> subprocess.Popen:
    """The first of them that says something on stdout."""
    import select

    found, _, _ = select.select([p.stdout for p in processes], [], [], 120)
    return next(p for p in processes if p.stdout is found[0])


def test_a_torn_checkpoint_is_no_checkpoint(tmp_path, capsys):
    state = {"w": torch.zeros(2)}
    checkpoints.save_position(tmp_path, {"epoch": 3}, {"loss": (2, state), "bma": (1, state)})
    position, best = checkpoints.load_position(tmp_path)
    assert position == {"epoch": 3} and {m: e for m, (e, _) in best.items()} == {"loss": 2, "bma": 1}
    checkpoints.save_position(tmp_path, {"epoch": 4}, {"loss": (4, state), "bma": (4, state)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best-4.pt", "position.pt"]
    (tmp_path / "position.pt").write_bytes((tmp_path / "position.pt").read_bytes()[:100])
    assert checkpoints.load_position(tmp_path) is None
    assert "starting over" in capsys.readouterr().err


RECIPES = {
    "restarts": {"schedule": "restarts", "epochs": 4, "cycles": 2, "snapshots": True, "dropout": 0.5},
    "phases": {
        "family": "torchvision", "network": "resnet18", "schedule": "onecycle", "optimizer": "adam",
        "augment": ["rotate35", "lighting"],
        "phases": [{"epochs": 1, "lr": 1e-3, "train": "head"}, {"epochs": 2, "lr": 1e-3, "train": "all_but_norm"}],
    },
    "range tests": {
        "schedule": "restarts", "optimizer": "adam", "cycles": 2, "snapshots": True, "range_steps": 12,
        "phases": [{"epochs": 1, "lr": "range", "train": "head"}, {"epochs": 2, "lr": "range", "train": "all"}],
    },
    "sgd": {"optimizer": "sgd", "schedule": "step", "sampler": "balanced", "epoch_images": 40, "epochs": 3},
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_training_stopped_at_any_step_ends_with_the_same_bits(data, monkeypatch, recipe):  # noqa: F811
    monkeypatch.chdir(data)
    monkeypatch.setenv("LESIONS_CHECKPOINT_EVERY", "0")
    one = block(**RECIPES[recipe])

    def trained(run, stop_after=None):
        trial = experiment.Experiment(one, one.split, COMPUTE, data)
        plain, taken = trial.batches, 0

        def counted(epoch, start=0):
            steps, stream = plain(epoch, start)

            def until_killed():
                nonlocal taken
                for pair in stream:
                    if taken == stop_after:
                        raise Killed
                    taken += epoch > 0  # a range test, of epoch 0, is begun anew
                    yield pair

            return steps, until_killed()

        trial.batches = counted
        model, found = trial.fit("test", run)
        return found, trial.predict(model, found.best), taken

    whole, predictions, steps = trained(None)
    rng = np.random.default_rng(int.from_bytes(recipe.encode()[:4]))
    with begun(data) as run:
        done = 0
        while True:
            stop = int(rng.integers(1, 5))
            try:
                found, again, taken = trained(run, stop)
                break
            except Killed:
                done += stop
        assert done + taken == steps, "no step is done twice"
        assert done >= steps // 2
    pd.testing.assert_frame_equal(found.history, whole.history, check_exact=True)
    pd.testing.assert_frame_equal(again, predictions, check_exact=True)
    assert found.curves.keys() == whole.curves.keys()
    for phase, curve in whole.curves.items():
        pd.testing.assert_frame_equal(found.curves[phase], curve, check_exact=True)
    assert {m: e for m, (e, _) in found.best.items()} == {m: e for m, (e, _) in whole.best.items()}
    for metric, (_, state) in whole.best.items():
        assert all(torch.equal(value, found.best[metric][1][key]) for key, value in state.items())


def digests(folder: Path) -> dict[str, str]:
    """Of all that a stage wrote: of what is neither its input, nor log, nor checkpoint."""
    roots = [folder / name for name in ("models", "metrics", "plots", "data/predictions", "data/generated")]
    found = sorted(path for root in roots for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def at_work(folder: Path, since: float) -> bool:
    """Whether a checkpoint was written since then."""
    return any(path.stat().st_mtime > since for path in folder.glob(".checkpoints/*/*/**/*") if path.suffix in SAVED)


def killed_until_done(command: list[str], folder: Path, kill, kills: int, seed: int) -> str:
    """Run `command` and kill(process) it again and again at random moments, then let it end by itself.

    Two of three times it is left alone until it has saved something. Returns what all runs wrote to stderr.
    """
    rng, said = np.random.default_rng(seed), ""
    environment = os.environ | {"LESIONS_CHECKPOINT_EVERY": "0", "TQDM_DISABLE": "1"}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for number in range(kills + 1):
        start = time.time()
        with (folder / "stderr").open("wb") as error:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stderr=error, start_new_session=True, preexec_fn=hear_sigint
            )
            if number < kills:
                waits = number % 3 < 2
                while waits and process.poll() is None and not at_work(folder, start):
                    time.sleep(0.05)
                time.sleep(rng.uniform(0, 2 if waits else 8))
                kill(process)
            process.wait(timeout=300)
        said += (folder / "stderr").read_text(encoding="utf-8")
    assert process.returncode == 0, said
    return said


@pytest.fixture
def project(data):  # noqa: F811
    """A folder in which the stages of the repository run, on 80 images."""
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    base = {"recipe": "a", "set": "isic2019", "images": "resized/isic2019/classify", "generated": "none"}
    base |= {"weights": "data/weights/none", "split": "standard"}
    chosen["classifiers"]["residual"] = base | {"epochs": 20, "batch": 8, "epoch_images": 0}
    chosen["classifiers"]["residual"] |= {"family": "residual", "network": "residual", "dropout": 0.3, "runs": 2}
    chosen["augment_gan"] |= {"epochs": 15, "batch": 4, "preview_every": 5}
    rng = np.random.default_rng(1)
    np.save(data / "resized/isic2019/gan.npy", rng.integers(0, 256, (80, 64, 64, 3), dtype=np.uint8))
    (data / "params.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    (data / "data/weights").mkdir(parents=True)
    for name in ("sorted", "resized", "generated"):
        (data / name).rename(data / "data" / name)
    (data / "data/weights/none").touch()
    return data


STAGES = {"train": ["stages.train", "residual"], "gan": ["stages.augment_gan"]}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_random_moments_ends_with_the_same_bytes(project, stage):
    command = [sys.executable, "-m", *STAGES[stage]]
    subprocess.run(command, cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}, check=True)
    whole = digests(project)
    assert len(whole) > 6
    kills = KILLS if stage == "train" else -(-KILLS // 3)  # TensorFlow is long in starting
    signals = cycle([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    said = killed_until_done(command, project, lambda process: process.send_signal(next(signals)), kills, seed=0)
    assert digests(project) == whole
    assert said.count("going on from") >= kills / 3
    assert not [path for path in project.rglob("*.part") if ".checkpoints" not in path.parts]
