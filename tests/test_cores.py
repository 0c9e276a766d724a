"""Work in several processes: in order, flat, and with an end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from lesions.core import files, workers
from lesions.core.errors import InputError
from tests.conftest import ROOT


def shifting(offset: int) -> Callable[[int], int]:
    return lambda job: job + offset  # which could not be sent to another process


def mortal() -> Callable[[int], int]:
    return lambda job: os.kill(os.getpid(), signal.SIGKILL) if job == 5 else job


def test_results_come_in_the_order_of_their_jobs():
    assert list(workers.in_order(partial(shifting, 7), range(1000), 3)) == list(range(7, 1007))
    assert list(workers.in_order(partial(shifting, 7), [], 2)) == []


def putting(put: Callable[[int, np.ndarray], None]) -> Callable[[int], None]:
    return lambda row: put(row, np.full((2, 3), row))


def unopened() -> Callable[[int], int]:
    raise InputError("a.zip: not readable")


def test_what_keeps_a_worker_from_beginning_is_told():
    with pytest.raises(InputError, match=r"a\.zip: not readable"):
        list(workers.in_order(unopened, range(10), 2))


def test_workers_put_rows_where_they_belong(tmp_path):
    with files.array_of_rows(tmp_path / "rows.npy", (200, 2, 3)) as put:
        list(workers.in_order(partial(putting, put), reversed(range(200)), 3))
        assert not (tmp_path / "rows.npy").exists()
    found = np.load(tmp_path / "rows.npy")
    assert found.dtype == np.uint8 and (found == np.arange(200)[:, None, None]).all()


def test_no_more_jobs_are_begun_than_memory_is_meant_for():
    taken = []
    results = workers.in_order(partial(shifting, 0), (taken.append(job) or job for job in range(1000)), 2)
    assert next(results) == 0 and len(taken) == 2 * workers.AHEAD + 1
    results.close()


def test_a_killed_worker_is_one_line():
    with pytest.raises(InputError, match="a worker was killed, most likely for memory; run again with fewer --workers"):
        list(workers.in_order(mortal, range(100), 2))


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only")
def test_workers_end_with_a_parent_that_is_killed():
    """They hold its standard output, which therefore comes to its end."""
    naps = [0, 0] + [600] * 100
    code = (
        "import time\nfrom lesions.core.workers import in_order\ndef sleeper(): return time.sleep\n"
        f"for n in in_order(sleeper, {naps}, 2): print(n)"
    )
    process = subprocess.Popen([sys.executable, "-uc", code], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    began = time.monotonic()
    process.stdout.read()
    assert time.monotonic() - began < 60
