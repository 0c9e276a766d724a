"""What a machine does to a stage: a full disk, too little memory, no GPU. One line, code 1, nothing half-written."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lesions.core import files
from lesions.core.errors import InputError, run
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute
from tests.conftest import ROOT

COMPUTE = Compute(threads=1, amp=False, compile=False, deterministic=True)


def stage(name: str, *args: str, cwd: Path, file_size: int | None = None) -> subprocess.CompletedProcess:
    """A stage run in `cwd`; `file_size`: bytes a file may have; past them a write fails as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    (cwd / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return subprocess.run(
        [sys.executable, "-m", f"stages.{name}", *args], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, preexec_fn=limit if file_size else None,
    )  # fmt: skip


def errors(done: subprocess.CompletedProcess) -> list[str]:
    """The lines on stderr that are no progress bar."""
    return [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip() and "it/s" not in line
            and "image/s" not in line and "?image" not in line]  # fmt: skip


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_that_does_not_fit_leaves_nothing(tmp_path, raw):
    done = stage("sort", "isic2019", "--raw", str(raw), "--out", "sorted", cwd=tmp_path, file_size=2000)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = errors(done)
    assert line.startswith("error: sorted/isic2019.csv: not written: ") and line.endswith("make room and run again")
    assert left(tmp_path / "sorted") == []


def test_arrays_that_do_not_fit_leave_nothing(tmp_path, raw):
    (tmp_path / "sorted").mkdir()
    names = [f"ISIC_{i:07d}" + ("_downsampled" if i % 10 == 3 else "") for i in range(96)]
    pd.DataFrame({"image": names}).to_csv(tmp_path / "sorted/isic2019.csv", index=False)
    arguments = ("isic2019", "--raw", str(raw), "--sorted", "sorted", "--out", "resized")
    done = stage("resize", *arguments, cwd=tmp_path, file_size=500_000)
    assert done.returncode == 1
    (line,) = errors(done)
    assert line.startswith("error: ") and "gan.npy: not written: " in line and left(tmp_path / "resized") == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("may not mount a small disk here; RLIMIT_FSIZE stands in for it above")
    yield folder
    subprocess.run(["umount", folder], check=True)


LARGE = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
STATE = {"weight": torch.zeros(100_000)}


def picture(path: Path) -> None:
    with files.replacing(path) as part:
        Image.fromarray(LARGE).save(part, "PNG")


def array(path: Path) -> None:
    with files.array_of_rows(path, LARGE.shape) as put:
        put(0, LARGE)


@pytest.mark.parametrize(("first", "shape"), [(-1, (400, 3)), (300, (400, 3)), (299, (2, 400, 3)), (0, (399, 3))])
def test_rows_that_do_not_fit_are_not_put(tmp_path, first, shape):
    with pytest.raises(ValueError, match="does not fit into"):  # noqa: SIM117
        with files.array_of_rows(tmp_path / "a.npy", LARGE.shape) as put:
            put(first, np.zeros(shape, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_an_array_is_written_where_the_file_system_cannot_reserve_room(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array(tmp_path / "a.npy")
    assert (np.load(tmp_path / "a.npy") == LARGE).all()


WRITERS = {
    "csv": lambda path: files.write_csv(path, pd.DataFrame(LARGE[..., 0])),
    "json": lambda path: files.write_json(path, {"x": "y" * 400_000}),
    "text": lambda path: files.write_text(path, "y" * 400_000),
    "png": picture,
    "npy": array,
    "pt": lambda path: checkpoints.save_one(path, STATE),
    "folder": lambda path: checkpoints.save(path, {"loss": (1, STATE)}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_named_and_left_as_it_was(small_disk, kind):
    (small_disk / "kept").write_bytes(b"x")
    with pytest.raises(InputError, match=r"disk.*x.*: not written: .*(make room|disk full)"):
        WRITERS[kind](small_disk / "x")
    assert left(small_disk) == [small_disk / "kept"]


@pytest.mark.parametrize("kind", WRITERS)
def test_an_older_file_survives_a_full_disk(small_disk, kind):
    target = small_disk / "x"
    if kind == "folder":
        target.mkdir()
    (target / "old.pt" if kind == "folder" else target).write_bytes(b"old")
    with pytest.raises(InputError):
        WRITERS[kind](target)
    assert [path.read_bytes() for path in left(small_disk)] == [b"old"]


def out_of_memory_on_the_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def out_of_memory_in_tensorflow() -> None:
    import tensorflow as tf

    raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[4096,64,64,3]")


@pytest.mark.parametrize(
    "allocate",
    [
        lambda: bytearray(2**62),
        lambda: np.empty(2**60, np.uint8),
        lambda: torch.empty(2**58),
        out_of_memory_on_the_gpu,
        out_of_memory_in_tensorflow,
    ],
    ids=["Python", "numpy", "torch", "CUDA", "TensorFlow"],
)
def test_too_little_memory_is_one_line(capsys, allocate):
    with pytest.raises(SystemExit) as done:
        run(allocate)
    assert done.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: out of memory (") and said.count("\n") == 1 and "smaller batch" in said


def test_a_full_disk_outside_our_writers_is_one_line(capsys):
    def main() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    with pytest.raises(SystemExit):
        run(main)
    assert capsys.readouterr().err == "error: /tmp/x: No space left on device; make room and run again\n"


@pytest.mark.parametrize("bug", [RuntimeError("shapes differ"), OSError(errno.EIO, "I/O error"), KeyError("x")])
def test_a_bug_keeps_its_traceback(bug):
    def main() -> None:
        raise bug

    with pytest.raises(type(bug)):
        run(main)


def test_cuda_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    wanted = COMPUTE.model_copy(update={"device": "cuda"})
    with pytest.raises(InputError, match=r"compute\.device: cuda, but torch sees no GPU here; choose auto or cpu"):
        hardware.prepare(wanted, 0)
    for device in ("auto", "cpu"):
        assert hardware.prepare(COMPUTE.model_copy(update={"device": device}), 0).type == "cpu"


def test_the_cpu_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    asked = {device: COMPUTE.model_copy(update={"device": device}) for device in ("auto", "cpu", "cuda")}
    assert {device: hardware.prepare(c, 0).type for device, c in asked.items()} == {
        "auto": "cuda", "cpu": "cpu", "cuda": "cuda"}  # fmt: skip


def test_a_mask_networks_state_of_another_encoder_is_named(tmp_path, monkeypatch):
    """The U-Net was trained with one encoder, and params.yaml now says another."""
    from lesions.segment import unet
    from stages import predict_masks

    checkpoints.save_one(tmp_path / "models/segment/jaccard.pt", unet.build("unet", "resnet34", (32, 32)).state_dict())
    for name in ("sorted", "resized/isic2017"):
        (tmp_path / "data" / name).mkdir(parents=True)
    pd.DataFrame({"image": ["a"]}).to_csv(tmp_path / "data/sorted/isic2017.csv", index=False)
    np.save(tmp_path / "data/resized/isic2017/classify.npy", np.zeros((1, 32, 32, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))))
    monkeypatch.setattr(sys, "argv", ["predict_masks", "isic2017"])
    with pytest.raises(InputError, match=r"models/segment/jaccard\.pt: not a state of this network"):
        predict_masks.main()
    assert not (tmp_path / "data/masks").exists()


def test_a_folder_without_gpu_says_so_before_anything_is_read(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    chosen["compute"]["device"] = "cuda"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen))
    done = subprocess.run(
        [sys.executable, "-m", "stages.segment"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and errors(done) == [
        "error: params.yaml: compute.device: cuda, but torch sees no GPU here; choose auto or cpu"
    ]
    assert left(tmp_path) == [tmp_path / "params.yaml"]


@pytest.mark.parametrize("text", ["image,label\na\n", "image,label\na,b,c\nd,e,f\n", "", '"', "image\na\n", "\xff\x00"])
def test_a_table_of_ours_that_was_edited_is_named(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"t\.csv: .*; run python -m stages\.sort"):
        files.read_csv(tmp_path / "t.csv", ("image", "label"), "stages.sort")
