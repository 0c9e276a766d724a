"""Real processes, killed in mid-task, on both databases; start-up; one picture beside a bulk; what is not imported."""

import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import toy
from tests.serving.conftest import ROOT, Processes, client, free_port, wait


def bulk(api: httpx.Client, images: int, model: str) -> str:
    files = [("files", (f"{i}.jpg", toy.picture(i))) for i in range(images)]
    answer = api.post("/predict_bulk", params={"model_id": model}, files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()["task_uuid"]


def done(api: httpx.Client, task: str) -> int:
    answer = api.get(f"/from_task/{task}")
    return answer.json()["done"] if answer.status_code == 202 else len(answer.json())


def whole(api: httpx.Client, task: str, images: int) -> None:
    """Wait for a task, and see that each of its images has its prediction."""
    wait(lambda: api.get(f"/from_task/{task}").status_code == 200, 60)
    found = api.get(f"/from_task/{task}").json()
    assert [item["index"] for item in found] == list(range(images))
    assert [item["error"] for item in found] == [None] * images


def test_a_killed_worker_loses_no_image(processes: Processes) -> None:
    _, api = processes.api()
    worker = processes.start("serving.worker")
    task = bulk(api, 24, "slow")
    wait(lambda: done(api, task) > 0)
    processes.kill(worker)
    assert done(api, task) < 24
    processes.start("serving.worker")
    whole(api, task, 24)


def test_a_killed_api_loses_no_task(processes: Processes) -> None:
    server, api = processes.api()
    processes.start("serving.worker")
    task = bulk(api, 16, "slow")
    processes.kill(server)
    _, other = processes.api()
    whole(other, task, 16)


def test_an_api_that_is_killed_while_it_receives_leaves_nothing_to_do(processes: Processes) -> None:
    server, api = processes.api(keep="0.5")
    stopping = threading.Event()

    def endless() -> object:
        part = b'--x\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n' + toy.picture() + b"\r\n"
        while not stopping.wait(0.001):
            yield part

    def upload() -> None:
        kind = {"content-type": "multipart/form-data; boundary=x"}
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{api.base_url}/predict_bulk?model_id=quick", content=endless(), headers=kind)

    sender = threading.Thread(target=upload)
    sender.start()
    wait(lambda: 'state="arriving"} 0' not in api.get("/metrics").text)
    processes.kill(server)
    stopping.set()
    sender.join()
    _, api = processes.api(keep="0.5")
    processes.start("serving.worker", keep="0.5")
    wait(lambda: 'state="arriving"} 0' in api.get("/metrics").text)
    whole(api, bulk(api, 3, "quick"), 3)


def test_two_apis_and_two_workers_share_a_database(processes: Processes) -> None:
    apis = [processes.api()[1] for _ in range(2)]
    for _ in range(2):
        processes.start("serving.worker")
    tasks = [bulk(api, 12, "slow") for api in apis]
    for api, task in zip(reversed(apis), tasks, strict=True):
        whole(api, task, 12)
    assert "lesions_workers 2" in apis[0].get("/metrics").text


def test_one_picture_beside_a_bulk(processes: Processes) -> None:
    _, api = processes.api()
    processes.start("serving.worker")
    task = bulk(api, 200, "slow")
    wait(lambda: done(api, task) > 0)
    one = api.post("/predict?model_id=quick", content=toy.picture()).json()["task_uuid"]
    wait(lambda: api.get(f"/from_task/{one}").status_code == 200)
    assert done(api, task) < 100


def test_twenty_clients_at_once_get_an_answer_or_are_asked_to_come_back(processes: Processes) -> None:
    """300 pictures in bulks and alone, against few places for uploads and a short queue; memory stays bounded."""
    server, api = processes.api(uploads="4", queued_images="60")
    worker = processes.start("serving.worker")
    tasks: dict[str, int] = {}
    refused: list[int] = []

    def until_taken(path: str, images: int, **body: Any) -> None:
        for _ in range(600):
            answer = api.post(f"{path}?model_id=slow", **body)
            if answer.status_code == 200:
                tasks[answer.json()["task_uuid"]] = images
                return
            assert answer.status_code in (429, 503) and int(answer.headers["retry-after"]) > 0
            refused.append(answer.status_code)
            time.sleep(0.1)
        raise AssertionError("never taken")

    def visit(client: int) -> None:
        files = [("files", (f"{i}.jpg", toy.picture(client + i))) for i in range(14)]
        until_taken("/predict_bulk", 14, files=files)
        until_taken("/predict", 1, content=toy.picture(client))

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(visit, range(20)))
    assert sum(tasks.values()) == 300 and len(tasks) == 40 and set(refused) <= {429, 503} and refused
    for task, images in tasks.items():
        whole(api, task, images)
    for process in (server, worker):
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 600_000  # kB


def test_a_worker_that_is_told_to_end_gives_back_what_it_took(processes: Processes) -> None:
    _, api = processes.api()
    worker = processes.start("serving.worker", lease="600")
    task = bulk(api, 24, "slow")
    wait(lambda: done(api, task) > 0)
    worker.terminate()
    assert worker.wait(30) == 0
    assert 'state="running"} 0' in api.get("/metrics").text
    processes.start("serving.worker")
    whole(api, task, 24)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_one_command_serves_and_restarts_its_worker(processes: Processes) -> None:
    port = free_port()
    begun = time.monotonic()
    server = processes.start("serving", "--port", str(port))
    api = client(port)
    wait(lambda: api.get("/health/ready").status_code == 200)
    print(f"ready in {time.monotonic() - begun:.2f} s")
    [worker] = children(server.pid)
    task = bulk(api, 16, "slow")
    subprocess.run(["kill", "-9", str(worker)], check=True)
    whole(api, task, 16)
    assert children(server.pid) != [worker]
    again = subprocess.run(
        [sys.executable, "-m", "serving", "--port", str(port)], cwd=ROOT, capture_output=True, text=True
    )
    assert again.returncode == 1 and re.fullmatch(r"error: port .*\n", again.stderr)
    [worker] = children(server.pid)
    processes.kill(server)
    wait(lambda: not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes())


def children(parent: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()] + [
        int(n) for task in Path(f"/proc/{parent}/task").iterdir() if task.name != str(parent)
        for n in (task / "children").read_text().split()
    ]  # fmt: skip


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here: apt-get install strace")
def test_nothing_is_sent_anywhere(tmp_path: Path, served: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.jpg").write_bytes(toy.picture())
    code = f"""
import sys, time
from pathlib import Path
from fastapi.testclient import TestClient
from serving.app import build
from serving.settings import Settings
from serving.worker import Worker
told = Settings(queue="sqlite:///{tmp_path}/q/t.sqlite", models="{served}")
api, worker = TestClient(build(told)), Worker(told)
for model in ("quick", "views"):
    api.post(f"/predict?model_id={{model}}", content=Path("{tmp_path}/pictures/a.jpg").read_bytes())
    worker.finish(worker.take())
assert worker.done == 2
time.sleep(3)
wrong = [m for m in sys.modules if m.split(".")[0] in ("torch", "lesions", "stages", "tensorflow")]
assert not wrong, wrong
"""
    trace = tmp_path / "trace"
    command = [
        "strace",
        "-f",
        "-e",
        "trace=connect,sendto,sendmsg,sendmmsg",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        code,
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    sent = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    assert "+++ exited with 0 +++" in trace.read_text() and not sent, sent[:3]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_answer_is_one_that_the_openapi_names(processes: Processes) -> None:
    _, api = processes.api()
    processes.start("serving.worker")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command = ["schemathesis.cli", "run", f"{api.base_url}/openapi.json", "--checks", checks, "--max-examples", "25"]
    options = ["--phases", "examples,coverage,fuzzing", "--max-time", "25", "--seed", "1", "--warnings", "off"]
    process = processes.start(*command, *options, "--exclude-path", "/health/ready")
    assert process.wait(120) == 0, processes.log()[-4000:]
