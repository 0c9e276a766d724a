"""Write and read state dicts and positions of a training: nothing but tensors, numbers and text is ever unpickled."""

import shutil
import sys
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from lesions.core.errors import InputError
from lesions.core.files import replacing, replacing_folder

State = dict[str, Tensor]
Best = dict[str, tuple[int, State]]  # for each kept metric, the epoch and the state (on the CPU) that had it best


def save(folder: Path, best: Best) -> None:
    """Write each metric's best state to <folder>/<metric>.pt; equal states get equal bytes, which DVC keeps once."""
    with replacing_folder(folder) as part:
        first: dict[int, Path] = {}
        for metric, (epoch, state) in best.items():
            path = part / f"{metric}.pt"
            if epoch in first:
                try:
                    path.hardlink_to(first[epoch])
                except OSError:  # a file system without links
                    shutil.copyfile(first[epoch], path)
            else:
                write(path, state)
                first[epoch] = path


def save_one(path: Path, state: dict) -> None:
    with replacing(path) as part:
        write(part, state)


def write(path: Path, state: dict) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch does not say why; hardly anything but a full disk stops it
        raise InputError(
            f"{path}: not written: {str(error)[:200]}; is the disk full? make room and run again"
        ) from None


def is_safetensors(path: Path) -> bool:
    """Return whether the file is safetensors (a length of eight bytes, then JSON), which sorts tensors by name."""
    with Path(path).open("rb") as file:
        return file.read(9)[8:] == b"{"


def load(path: Path) -> State:
    """Return the state dict at `path`, safetensors or torch's own, on the CPU. Raises InputError for anything else."""
    expected = "expected a torch state dict; run the stage that writes it again"
    try:
        if is_safetensors(path):
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {expected}") from None
    except Exception as error:  # the unpickler raises nearly anything on bytes that are no pickle
        raise InputError(f"{path}: unreadable ({type(error).__name__}); {expected}") from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: not a mapping of names to tensors; {expected}")
    return state


def save_position(folder: Path, position: dict, best: Best) -> None:
    """Write the position of a training and its best states so far, each state once."""
    for epoch, state in best.values():
        path = folder / f"best-{epoch}.pt"
        if not path.exists():
            save_one(path, state)
    save_one(folder / "position.pt", {**position, "best": {metric: epoch for metric, (epoch, _) in best.items()}})
    kept = {f"best-{epoch}.pt" for epoch, _ in best.values()}
    for path in folder.glob("best-*.pt"):
        if path.name not in kept:
            path.unlink()


def load_position(folder: Path) -> tuple[dict, Best] | None:
    """Return what save_position wrote into `folder`; None if there is nothing, or nothing that can be read."""
    if not (folder / "position.pt").exists():
        return None
    try:
        position = torch.load(folder / "position.pt", map_location="cpu", weights_only=True)
        epochs: dict[str, int] = position.pop("best")
        states = {epoch: load(folder / f"best-{epoch}.pt") for epoch in set(epochs.values())}
    except Exception as error:  # cut short by a power failure: the work is done again
        print(f"{folder}: unreadable ({type(error).__name__}); starting over", file=sys.stderr)
        return None
    return position, {metric: (epoch, states[epoch]) for metric, epoch in epochs.items()}


def load_into(model: nn.Module, path: Path) -> None:
    """Fill `model` from the state dict at `path`. Raises InputError for another network's."""
    try:
        model.load_state_dict(load(path))
    except RuntimeError as error:
        raise InputError(f"{path}: not a state of this network: {str(error)[:200]}; train it again") from None
