"""Time the platform on released/lite1: what the API costs beside the model, and ONNX Runtime beside torch.

Photographs are 600×450, noise on a gradient. In bulk: uploaded in one request, decoded, resized, predicted in eight
views and fetched again, the client on the same cores; against `Model.predict` alone in a loop on batches of eight that
are decoded already, on the same threads. One picture: from its upload to its result, while a bulk runs. Memory: of
server and worker, in a model of one view. torch: the network eager, in the faster of both layouts, on one thread.
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
import torch
from PIL import Image

from benchmarks.common import ROOT, Row, duration, ratio, row, timed
from lesions.core.errors import InputError
from lesions.export import graph
from lesions.networks import build
from serving import models, prepare
from serving.settings import Settings

PYTHON = ROOT / ".venv-serving/bin/python"
MODEL = "lite1"
BATCH = 8
COUNTS = {"small": (16, 80, 100), "usual": (200, 1000, 2000), "full": (200, 1000, 10_000)}  # bulk, behind one, memory
EAGER = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "efficientnet_b0")


def photograph(seed: int) -> bytes:
    """Return a JPEG of 600×450 pixels."""
    rng = np.random.default_rng(seed)
    levels = np.linspace(90, 200, 600)[None, :, None] + rng.normal(0, 12, (450, 600, 3))
    file = BytesIO()
    Image.fromarray(levels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


class Site:
    """A server on loopback, and what a client asks of it."""

    def __init__(self, port: int, process: subprocess.Popen) -> None:
        self.address, self.process = f"http://127.0.0.1:{port}", process

    def ask(self, path: str, body: bytes | None = None, kind: str = "image/jpeg") -> Any:
        asked = urllib.request.Request(f"{self.address}/{path}", body, {"Content-Type": kind})
        with urllib.request.urlopen(asked, timeout=600) as answer:
            return json.load(answer)

    def one(self, content: bytes, model: str = MODEL) -> float:
        """Return the seconds until a picture has its result."""
        begun = time.perf_counter()
        self.result(self.ask(f"predict?model_id={model}", content)["task_uuid"], 0.02)
        return time.perf_counter() - begun

    def bulk(self, contents: list[bytes], model: str = MODEL) -> str:
        head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
        body = b"".join(head + content + b"\r\n" for content in contents) + b"--x--\r\n"
        return self.ask(f"predict_bulk?model_id={model}", body, "multipart/form-data; boundary=x")["task_uuid"]

    def result(self, task: str, pause: float = 0.25) -> list[dict]:
        while isinstance(found := self.ask(f"from_task/{task}"), dict):
            time.sleep(pause)
        assert not any(item["error"] for item in found)
        return found

    def memory(self) -> float:
        """Return the resident megabytes of the server and its worker."""
        own = Path(f"/proc/{self.process.pid}")
        workers = [
            Path("/proc", pid) for task in (own / "task").iterdir() for pid in (task / "children").read_text().split()
        ]
        texts = [(process / "status").read_text() for process in (own, *workers)]
        return sum(int(text.split("VmRSS:")[1].split()[0]) for text in texts) / 1000


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
    site = Site(port, process)
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


def memory(folder: Path, count: int) -> Row:
    """Compare the memory after a fifth of `count` pictures with that after all."""
    bulks = max(5, count // 1000)  # a request has a thousand at most
    contents = [photograph(seed) for seed in range(20)] * (count // bulks // 20)
    with serving(folder) as site:
        used = []
        for _ in range(bulks):
            site.result(site.bulk(contents, "one_view"))
            used.append(site.memory())
    what, values = "memory after all against after a fifth", np.array([used[-1] / used[bulks // 5 - 1]])
    return row(what, f"{used[-1]:.0f} MB", f"{used[bulks // 5 - 1]:.0f} MB", values, f"{count} pictures", "×", "≤", 1.1)


def eager(network: str, batch: int, folder: Path, rounds: int) -> Row:
    """Compare the exported network with torch's eager one, at 224² on one thread."""
    size, found = (224, 224), build.find("timm", network)
    torch.manual_seed(0)
    served = graph.Classifier(build.build("timm", network, 8, size).eval(), found.mean, found.std, size)
    graph.export(served, size, folder / f"{network}.onnx")
    session = graph.session(folder / f"{network}.onnx", threads=1)
    images = np.random.default_rng(0).integers(256, size=(batch, *size, 3), dtype=np.uint8)
    given = served.prepared(torch.from_numpy(images))
    times, threads = max(1, 16 // batch), torch.get_num_threads()
    torch.set_num_threads(1)

    def torched(layout: torch.memory_format) -> float:
        model, pixels = served.model.to(memory_format=layout), given.contiguous(memory_format=layout)
        begun = time.perf_counter()
        with torch.inference_mode():
            for _ in range(times):
                model(pixels)
        return time.perf_counter() - begun

    layouts = (torch.contiguous_format, torch.channels_last)
    quicker = min(layouts, key=lambda layout: min(torched(layout) for _ in range(2)))
    runs = {
        "ONNX Runtime": lambda: [session.run(["logits"], {"images": images}) for _ in range(times)],
        "torch": lambda: torched(quicker),
    }
    seconds = timed(runs, rounds)
    torch.set_num_threads(threads)
    return ratio(
        f"{network}, 224², batch {batch}", seconds, ("ONNX Runtime", "torch"), batch * times, "image", wanted=1.4
    )


def rows(size: str) -> list[Row]:
    several, behind, many = COUNTS[size]
    rounds = 1 if size == "small" else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for copy in (MODEL, "one_view"):
            shutil.copytree(ROOT / "released" / MODEL, folder / "models" / copy)
        path = folder / "models/one_view/card.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"views": 1}))
        found = [row for threads in (1, 2) for row in bulk(folder, several, threads, rounds)]
        found += [*beside(folder, behind, 4 * rounds), memory(folder, many)]
        return found + [eager(n, b, folder, rounds) for n in EAGER[: 1 if rounds == 1 else None] for b in (1, BATCH)]
