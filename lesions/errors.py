"""The one exception that a user can cause, and how a stage reports it: one line, exit code 1, no traceback.

A full disk and too little memory are reported so too; everything else is a bug of ours and keeps its traceback.
"""

import errno
import os
import sys
from collections.abc import Callable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")  # torch's and TensorFlow's names: neither is imported here


class InputError(Exception):
    """A file or parameter is not as expected. The message names it, says what was expected, and what to do."""


def explained(error: Exception) -> str | None:
    """What a user can do about `error`; None for a bug."""
    said = str(error)
    if isinstance(error, InputError):
        return said
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.filename or 'disk'}: {os.strerror(error.errno)}; make room and run again"
    if (
        isinstance(error, MemoryError) or type(error).__name__ in NO_MEMORY or "can't allocate memory" in said
    ):  # torch's
        return f"out of memory ({said[:200]}); choose a smaller batch or smaller images in params.yaml"
    return None


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; an error that `explained` knows becomes one line on stderr and exit code 1."""
    try:
        main()
    except Exception as error:
        line = explained(error)
        if line is None:
            raise
        print(f"error: {' '.join(line.split())}", file=sys.stderr)
        raise SystemExit(1) from None
