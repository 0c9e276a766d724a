"""Run one function over many jobs on all cores; results come in order, and memory does not grow with their number."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any

from lesions.core.errors import InputError
from lesions.core.process import end_with

AHEAD = 32  # jobs a process, begun or done, whose results have not been taken yet
making: Callable[[], Callable[[Any], Any]]  # of a worker process: its `make`, which runs once


def usable() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make: Callable[[], Callable[[Any], Any]], jobs: Iterable, workers: int) -> Iterator:
    """Yield make()(job) for each job, in order. Each worker process calls make once, to open the files that it needs.

    Raises InputError if the system kills a worker. Workers end with this process, however it ends.
    """
    with ProcessPoolExecutor(workers, None, begin, (os.getpid(), make)) as pool:
        waiting: deque[Future] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError("a worker was killed, most likely for memory; run again with fewer --workers") from None
        finally:
            for left in waiting:
                left.cancel()


def begin(parent: int, make: Callable[[], Callable[[Any], Any]]) -> None:
    global making
    end_with(parent)
    making = cache(make)


def work(job: Any) -> Any:
    return making()(job)
