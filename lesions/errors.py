"""The one exception that a user can cause, and how a stage reports it: one line, exit code 1, no traceback."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """A file or parameter is not as expected. The message names it, says what was expected, and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; an InputError becomes one line on stderr and exit code 1."""
    try:
        main()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
