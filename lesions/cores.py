"""One function over many jobs on all cores, the results in order, memory flat however many there are."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from lesions.errors import InputError


def in_order(
    work: Callable[[Any], Any], jobs: Sequence, workers: int, start: Callable, given: tuple, chunk: int
) -> Iterator:
    """work(job) of each job. start(*given) is called once in each of the `workers` processes; `chunk` jobs go to one at
    a time, and 64 chunks at most are under way. Raises InputError where the system kills a worker."""
    with ProcessPoolExecutor(workers, None, start, given) as pool:
        try:
            for begin in range(0, len(jobs), 64 * chunk):
                yield from pool.map(work, jobs[begin : begin + 64 * chunk], chunksize=chunk)
        except BrokenProcessPool:
            raise InputError("a worker was killed, most likely for memory; run again with fewer --workers") from None
