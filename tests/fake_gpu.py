"""A CUDA device of shapes without values, on any machine: what the host would have to wait for there."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
COPIES = {aten._to_copy.default: 0, aten.copy_.default: 1}  # and which argument is the source
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten.index_copy_.default}
CHECKED = {aten._linalg_check_errors.default}  # reads whether a decomposition went well
PAGEABLE = 2**16  # bytes that CUDA takes from memory that is not pinned without waiting


class FakeGpu(TorchDispatchMode):
    """What has to do with "cuda" has shapes only; the rest runs. Collects what the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[str] = []
        self.pinned: set[int] = set()  # addresses

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
        if len(here) == len(tensors) and not str(kwargs.get("device")).startswith("cuda"):
            pinned = kwargs.pop("pin_memory", False)  # which asks for a driver
            with unset_fake_temporarily():
                found = func(*args, **kwargs)
            self.pinned |= {found.data_ptr()} if pinned else set()
            return found
        found = func(*args, **kwargs)
        if func in COPIES and args[COPIES[func]].device != found.device:
            asked_not_to = kwargs.get("non_blocking") or args[2:] == (True,)
            large = any(t.nbytes > PAGEABLE and t.data_ptr() not in self.pinned for t in here)
            waits = not asked_not_to or large
        else:
            waits = func in CHECKED or (func in INDEXED and any(tensor.ndim for tensor in here))
        if waits:
            self.awaited.append(f"{func}: {tuple(found.shape) if isinstance(found, torch.Tensor) else ''}")
        return found


@contextmanager
def fake_gpu() -> Iterator[list[str]]:
    """Yields what the host waits for, as it comes: copies that are not said to be non_blocking or come from much memory
    that is not pinned, indices and decompositions. Reading a value (item, nonzero, bincount, indexing by a mask)
    raises. Not seen: the backward pass, which cannot run here, and autocast, which is off."""
    with FakeTensorMode(allow_non_fake_inputs=True), FakeGpu() as mode:
        yield mode.awaited
