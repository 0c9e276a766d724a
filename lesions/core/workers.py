"""One function over many jobs on all cores, the results in order, memory flat however many there are."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from typing import Any

from lesions.core.errors import InputError
from lesions.core.process import end_with

AHEAD = 32  # jobs a process that may be under way or waiting to be taken
making: Callable[[], Callable[[Any], Any]]  # a worker's, to be called with its first job


def usable() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make: Callable[[], Callable[[Any], Any]], jobs: Iterable, workers: int) -> Iterator:
    """make()(job) of each job; make is called once in each of the `workers` processes, where it opens what it needs.

    Raises InputError where the system kills one; they end with this process, however it ends.
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
