"""Choose the device of a training or a prediction, and the options that make a step on it faster."""

import os
import random
from dataclasses import dataclass

import numpy as np
import torch

from lesions.core.errors import InputError
from lesions.training.config import Compute


def prepare(compute: Compute, seed: int) -> torch.device:
    """Set seeds, threads and switches; return the device: compute.device, where auto is CUDA if there is one.

    Raises InputError for cuda where there is none.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InputError("params.yaml: compute.device: cuda, but torch sees no GPU here; choose auto or cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not compute.deterministic
    return torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(compute: Compute) -> str:
    """Return the model of the GPU, or cpu."""
    return torch.cuda.get_device_name() if compute.device != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Switches:
    """The options that make a step faster; benchmarks/step.py measures each.

    channels_last: the order of weights and images in memory. fused: an optimizer that goes over weights and moments
    once. amp: bfloat16 autocast. compile: torch.compile.
    """

    channels_last: bool = False
    fused: bool = False
    amp: bool = False
    compile: bool = False

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.amp)


def switches(compute: Compute, device: torch.device) -> Switches:
    """Return the switches that `compute` asks for: amp and compile on CUDA only, the others everywhere."""
    cuda = device.type == "cuda"
    return Switches(channels_last=True, fused=True, amp=compute.amp and cuda, compile=compute.compile and cuda)
