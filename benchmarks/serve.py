"""Time the platform on released/lite1: what the API costs beside the model.

Photographs are 600×450, noise on a gradient. In bulk: uploaded in one request, decoded, resized, predicted in eight
views and fetched again, the client on the same cores; against `Model.predict` alone in a loop on batches of eight that
are decoded already, on the same threads. One picture: from its upload to its result, while a bulk runs.
"""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.common import ROOT, Row, duration, ratio, row, timed
from lesions.core.errors import InputError
from serving import models, prepare
from serving.settings import Settings

PYTHON = ROOT / ".venv-serving/bin/python"
MODEL = "lite1"
BATCH = 8
COUNTS = {"small": (16, 80), "usual": (200, 1000), "full": (200, 1000)}  # in bulk, behind one


def photograph(seed: int) -> bytes:
    """Return a JPEG of 600×450 pixels."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(90, 200, 600)[None, :, None] + rng.normal(0, 12, (450, 600, 3))
    file = BytesIO()
    Image.fromarray(levels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Site:
    """A server on loopback, and what a client asks of it."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: bytes | None = None, kind: str = "image/jpeg") -> Any:
        asked = urllib.request.Request(f"{self.address}/{path}", body, {"Content-Type": kind})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return json.load(answer)

    def one(self, content: bytes) -> float:
        """Return the seconds until a picture has its result."""
        begun = time.perf_counter()
        self.result(self.ask(f"predict?model_id={MODEL}", content)["task_uuid"], 0.02)
        return time.perf_counter() - begun

    def bulk(self, contents: list[bytes]) -> str:
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        body = b"".join(head + content + b"\r\n" for content in contents) + b"--x--\r\n"
        return self.ask(f"predict_bulk?model_id={MODEL}", body, "multipart/form-data; boundary=x")["task_uuid"]

    def result(self, task: str, pause: float = 0.25) -> list[dict]:
        while isinstance(found := self.ask(f"from_task/{task}"), dict):
            time.sleep(pause)
        assert not any(item["error"] for item in found)
        return found


@contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Site]:
    """Start `python -m serving` in a folder's queue; end it afterwards."""
    if not PYTHON.exists():
        raise InputError(f"{PYTHON}: not there; run make .venv-serving/ready")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"queue": f"sqlite:///{folder}/queue/tasks.sqlite", "models": folder / "models"} | settings
    environment = os.environ | {f"LESIONS_{name.upper()}": str(value) for name, value in told.items()}
    command = [str(PYTHON), "-m", "serving", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    site = Site(port)
    try:
        while True:
            try:
                site.ask("health/ready")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.02)
        yield site
    finally:
        process.terminate()
        process.wait()


def bulk(folder: Path, count: int, threads: int, rounds: int) -> list[Row]:
    """Compare pictures a second in bulk with the model's alone."""
    contents = [photograph(seed) for seed in range(BATCH)]
    model = models.Model(models.find(Settings(models=str(folder / "models")))[MODEL], threads)
    ready = [prepare.fitted(prepare.decoded(content, 50), model.size, model.fit) for content in contents]
    pixels, seen = np.stack([image for image, _ in ready]), [box for _, box in ready]

    def alone() -> None:
        for _ in range(count // BATCH):
            model.predict(pixels, seen)

    with serving(folder, threads=threads) as site:
        uploads = [contents[i % BATCH] for i in range(count)]
        seconds = timed({"API": lambda: site.result(site.bulk(uploads)), "model alone": alone}, rounds)
    what = f"in bulk, {threads} thread{'s' * (threads > 1)} of the model"
    return [ratio(what, seconds, ("API", "model alone"), count, "image", wanted=0.85)]


def beside(folder: Path, count: int, times: int) -> list[Row]:
    """Time one picture, several `times`, while a bulk runs, and the start."""
    with serving(folder) as site:
        contents = [photograph(seed) for seed in range(BATCH)]
        site.one(contents[0])
        begun = time.perf_counter()
        site.result(site.bulk(contents), 0.02)
        batch = time.perf_counter() - begun
        task = site.bulk([contents[i % BATCH] for i in range(count)])
        values = np.array([site.one(contents[i % BATCH]) for i in range(times)])
        assert isinstance(site.ask(f"from_task/{task}"), dict), "the bulk ended too early"
    starts = []
    for _ in range(3):
        begun = time.perf_counter()
        with serving(folder):
            starts.append(time.perf_counter() - begun)
    slowest, n = values.max(keepdims=True), f"the slowest of {times}, bulk of {count}"
    return [
        row("one picture beside a bulk, within 1 s and a batch", f"median {duration(float(np.median(values)))}",
            f"batch {duration(batch)}", slowest, n, "s", "≤", round(1 + batch, 2)),
        row("start until ready", duration(float(np.median(starts))), "–", np.array(starts), "3 starts", "s", "≤", 2),
    ]  # fmt: skip


def rows(size: str) -> list[Row]:
    several, behind = COUNTS[size]
    rounds = 1 if size == "small" else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "released" / MODEL, folder / "models" / MODEL)
        found = [row for threads in (1, 2) for row in bulk(folder, several, threads, rounds)]
        return found + beside(folder, behind, 4 * rounds)
