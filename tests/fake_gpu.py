"""A CUDA device of shapes without values, on any machine: what the host would have to wait for there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}  # and which argument is the source


class FakeGpu(TorchDispatchMode):
    """What has to do with "cuda" has shapes only; the rest runs. Collects the copies to it that are waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = str(kwargs.get("device")).startswith("cuda")
        if not there and not any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        found = func(*args, **kwargs)
        asked_not_to = kwargs.get("non_blocking") or args[2:] == (True,)
        if func in COPIES and args[COPIES[func]].device != found.device and not asked_not_to:
            self.awaited.append(f"{func} of {tuple(found.shape)} from {args[COPIES[func]].device}")
        return found


@contextmanager
def fake_gpu() -> Iterator[list[str]]:
    """Yields the copies that the host waits for, as they come; reading a value from the device (item, nonzero,
    bincount, indexing by a mask) raises."""
    with FakeTensorMode(allow_non_fake_inputs=True), FakeGpu() as mode:
        yield mode.awaited
