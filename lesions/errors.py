"""The one exception that a user can cause, and how a stage reports it: one line, exit code 1, no traceback."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class InputError(Exception):
    """A file or parameter is not as expected. The message names it, says what was expected, and what to do."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; an InputError becomes one line on stderr and exit code 1.

    Ctrl-C and SIGTERM end it as they should, its temporary files removed, and under DVC it ends with DVC.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if "DVC_STAGE" in os.environ:
        end_with_dvc()
    try:
        main()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted; run it again to go on", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def end_with_dvc() -> None:
    """Kill this process when the DVC that runs it ends, however it ends: else a killed DVC would leave it behind.

    Linux only. DVC is the nearest ancestor that is not the shell which runs the stage's command.
    """
    if not hasattr(os, "pidfd_open"):
        return
    pid = os.getppid()
    with suppress(OSError):
        while b"stages." in Path(f"/proc/{pid}/cmdline").read_bytes():
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        handle = os.pidfd_open(pid)  # readable once the process has ended

        def watch() -> None:
            select.select([handle], [], [])
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()
