"""End this process when another one ends, so that a killed program leaves no process behind."""

import os
import select
import signal
import threading
from contextlib import suppress
from pathlib import Path


def end_with_dvc() -> None:
    """Kill this process when the DVC that runs it ends, however it ends. Linux only.

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
