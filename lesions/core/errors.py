"""Define the exception that a user can cause, and report it: one line, exit code 1, no traceback.

A full disk and too little memory are reported in the same way; any other error is a bug and keeps its traceback.
"""

import argparse
import difflib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_MEMORY = ("OutOfMemoryError", "ResourceExhaustedError")  # torch's and TensorFlow's names: neither is imported here
SAYS_NO_MEMORY = "can't allocate memory"  # torch on the CPU


class InputError(Exception):
    """An error in a file or parameter. The message names it, says what was expected, and what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: which of `known` a wrong `name` may have meant, or all of them if they are few."""
    known = sorted(map(str, known))
    if not known:
        return ""
    close = known if len(known) <= 12 else difflib.get_close_matches(name, known, n=4, cutoff=0.6)
    return f"; expected one of {', '.join(close)}" if close else f"; expected one of {len(known)} others"


def at_least_one(text: str) -> int:
    """Return `text` as a whole number that is 1 or more; for argparse's `type`. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number, 1 or more")
    return int(text)


def explained(error: Exception) -> str | None:
    """Return a line that says what was wrong and what a user can do about it; None for a bug."""
    said = str(error)
    if isinstance(error, InputError):
        return said
    if isinstance(error, OSError) and error.errno in FULL:
        return f"{error.filename or 'disk'}: {os.strerror(error.errno)}; make room and run again"
    if isinstance(error, MemoryError) or type(error).__name__ in NO_MEMORY or SAYS_NO_MEMORY in said:
        return f"out of memory ({said[:200]}); choose a smaller batch or smaller images in params.yaml"
    return None


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; turn an error that `explained` knows into one line on stderr and exit code 1.

    Ctrl-C and SIGTERM end the stage after its temporary files are removed.
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
