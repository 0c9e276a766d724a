"""Serve on this machine: the API and the page, one worker, SQLite.

python -m serving [--port 8000] [--host 127.0.0.1]
"""

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import threading

from serving import settings
from serving.settings import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def keep_working(stopped: threading.Event) -> None:
    """Run a worker in a process of its own, and another one whenever it dies, until stopped."""
    command = [sys.executable, "-m", "serving.worker", "--parent", str(os.getpid())]
    while not stopped.is_set():
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while process.poll() is None and not stopped.wait(0.2):
            pass
        if process.poll() is None:
            process.terminate()
            process.wait()
        elif not stopped.is_set():
            logging.warning("the worker ended (%s); another one starts", process.returncode)
            stopped.wait(0.5)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises InputError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except OSError as error:
        raise InputError(f"port {port} of {host}: {error.strerror}; choose another: PORT=8001") from None
    return opened


def serve(told: settings.Settings, opened: socket.socket) -> None:
    """Run the API until it is told to end."""
    import uvicorn  # here: the worker starts meanwhile

    from serving import app, models

    logging.basicConfig(level=logging.INFO, format=settings.LOG)
    server = uvicorn.Server(uvicorn.Config(app.build(told), access_log=False, log_config=None, log_level="warning"))
    there = models.find(told)
    log = logging.getLogger("serving")
    log.info("models: %s", ", ".join(there) or models.unknown("", there, told))
    log.info("http://%s:%d", *opened.getsockname()[:2])
    server.run(sockets=[opened])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default=LOOPBACK[0])
    args = parser.parse_args()
    if args.host in LOOPBACK:  # so that no page of elsewhere reaches it under a name of its own
        os.environ.setdefault("LESIONS_HOSTS", "localhost,127.0.0.1,[::1]")
    opened, told = listening(args.host, args.port), settings.read()
    stopped = threading.Event()
    working = threading.Thread(target=keep_working, args=(stopped,))
    working.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the worker is ended, too
    try:
        serve(told, opened)
    finally:
        stopped.set()
        working.join()


if __name__ == "__main__":
    settings.run(main)
