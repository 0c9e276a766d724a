"""State dicts on disk: nothing but tensors is ever unpickled."""

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from lesions.errors import InputError
from lesions.files import replacing, replacing_folder

State = dict[str, Tensor]


def save(folder: Path, best: dict[str, tuple[int, State]]) -> None:
    """<folder>/<metric>.pt for each of {metric: (epoch, state)}; DVC's cache stores equal ones once."""
    with replacing_folder(folder) as part:
        first: dict[int, Path] = {}
        for metric, (epoch, state) in best.items():
            path = part / f"{metric}.pt"
            if epoch in first:
                shutil.copyfile(first[epoch], path)
            else:
                write(path, state)
                first[epoch] = path


def save_one(path: Path, state: State) -> None:
    with replacing(path) as part:
        write(part, state)


def write(path: Path, state: State) -> None:
    try:
        torch.save(state, path)
    except RuntimeError as error:  # torch's writer does not say why: a full disk is all that stops it
        raise InputError(
            f"{path}: not written: {str(error)[:200]}; is the disk full? make room and run again"
        ) from None


def load(path: Path) -> State:
    """The state dict at `path`, on the CPU. Raises InputError for anything else."""
    expected = "expected a torch state dict; run the stage that writes it again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {expected}") from None
    except Exception as error:  # the unpickler raises nearly anything on bytes that are no pickle
        raise InputError(f"{path}: unreadable ({type(error).__name__}); {expected}") from None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: not a mapping of names to tensors; {expected}")
    return state


def load_into(model: nn.Module, path: Path) -> None:
    """Fill `model` from the state dict at `path`. Raises InputError for one that is not exactly of this network."""
    try:
        model.load_state_dict(load(path))
    except RuntimeError as error:
        raise InputError(f"{path}: not a state of this network: {str(error)[:200]}; train it again") from None
