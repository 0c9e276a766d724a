"""The one exception that a user can cause, and how a stage reports it: one line, exit code 1, no traceback.

A full disk and too little memory are reported so too; everything else is a bug of ours and keeps its traceback.
"""

import argparse
import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")  # torch's and TensorFlow's names: neither is imported here
SAY_NO_MEMORY = ("can't allocate memory", "RESOURCE_EXHAUSTED")  # torch on the CPU; JAX


class InputError(Exception):
    """A file or parameter is not as expected. The message names it, says what was expected, and what to do."""


def at_least_one(text: str) -> int:
    """An argument of a stage that is 1 or more: argparse's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def explained(error: Exception) -> str | None:
    """What a user can do about `error`; None for a bug."""
    said = str(error)
    if isinstance(error, InputError):
        return said
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.filename or 'disk'}: {os.strerror(error.errno)}; make room and run again"
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ in NO_MEMORY
        or any(part in said for part in SAY_NO_MEMORY)
    ):
        return f"out of memory ({said[:200]}); choose a smaller batch or smaller images in params.yaml"
    return None


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; an error that `explained` knows becomes one line on stderr and exit code 1.

    Ctrl-C and SIGTERM end it as they should, its temporary files removed.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        main()
    except Exception as error:
        line = explained(error)
        if line is None:
            raise
        print(f"error: {' '.join(line.split())}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; run it again to go on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def end_with_dvc() -> None:
    """Kill this process when the DVC that runs it ends: else a killed DVC would leave it behind. Linux only.

    DVC is the nearest ancestor that is not the shell which runs the stage's command.
    """
    pid = os.getppid()
    with suppress(OSError):
        while b"stages." in Path(f"/proc/{pid}/cmdline").read_bytes():
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        end_with(pid)


def end_with(pid: int) -> None:
    """Kill this process when process `pid` ends, however it ends. Linux only."""
    if not hasattr(os, "pidfd_open"):
        return
    with suppress(OSError):
        handle = os.pidfd_open(pid)  # readable once the process has ended

        def watch() -> None:
            select.select([handle], [], [])
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
