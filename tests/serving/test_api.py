"""The end points: the study's fields exactly, the additive ones, limits, errors. The worker runs in this process."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from serving.app import build
from serving.settings import Settings
from serving.worker import Worker
from tests.serving import toy

STUDY = ["AK", "BCC", "BKL", "DF", "SCC", "VASC", "melanoma", "nevus"]
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ADDITIVE = {"balanced", "familiarity", "map", "index", "error"}


class Site:
    """An API, and a worker that works when it is told to."""

    def __init__(self, folder: Path, served: Path, **settings: Any) -> None:
        self.settings = replace(
            Settings(queue=f"sqlite:///{folder}/queue/tasks.sqlite", models=str(served), threads=1), **settings
        )
        self.app = build(self.settings)
        self.client = TestClient(self.app)
        self.worker = Worker(self.settings)

    def work(self) -> None:
        while batch := self.worker.take():
            self.worker.finish(batch)

    def bulk(self, *contents: bytes, model: str = "quick", **options: Any) -> Any:
        files = [("files", (f"{i}.jpg", content)) for i, content in enumerate(contents)]
        return self.client.post("/predict_bulk", params={"model_id": model}, files=files, **options)

    def results(self, answer: Any) -> list[dict[str, Any]]:
        self.work()
        found = self.client.get(f"/from_task/{answer.json()['task_uuid']}")
        assert found.status_code == 200, found.text
        return found.json()


@pytest.fixture
def site(tmp_path: Path, served: Path) -> Iterator[Site]:
    yield Site(tmp_path, served)


def test_public_models_are_the_classifiers_with_their_cards(site: Site, served: Path) -> None:
    found = site.client.get("/public_models").json()
    assert found["models"] == ["quick", "slow", "two", "views"]
    assert found["cards"]["quick"] == json.loads((served / "quick/card.json").read_text())
    assert "Not a medical device" in found["notice"]


def test_one_picture_as_a_form_and_as_a_body_have_the_studys_fields(site: Site) -> None:
    content = toy.picture()
    form = site.client.post("/predict?model_id=quick", files={"file": ("../a b.jpg", content)})
    body = site.client.post("/predict?model_id=quick", content=content, headers={"content-type": "image/jpeg"})
    assert form.status_code == body.status_code == 200
    assert form.json().keys() == {"task_uuid"} and UUID.fullmatch(form.json()["task_uuid"])
    [one], [other] = site.results(form), site.results(body)
    assert one["name"] == "../a b.jpg"
    assert one.keys() - ADDITIVE == {"name", "probabilities", "metadata", "prediction"}
    assert list(one["probabilities"]) == STUDY and sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert {"origin", "net_type", "img_size", "out_dim"} <= one["metadata"].keys()
    assert (one["metadata"]["net_type"], one["metadata"]["img_size"], one["metadata"]["out_dim"]) == ("toy", 32, 8)
    assert one["prediction"].keys() == {"target", "label", "prediction"}
    assert STUDY[one["prediction"]["label"]] == one["prediction"]["prediction"]
    assert other == one | {"name": "image"}


def test_the_likeliest_class_is_the_balanced_one_and_target_means_melanoma(site: Site) -> None:
    found = site.results(site.bulk(*(toy.picture(seed) for seed in range(40))))
    for item in found:
        assert item["prediction"]["prediction"] == max(item["balanced"], key=item["balanced"].get)
        assert item["prediction"]["target"] == (item["prediction"]["prediction"] == "melanoma")
    assert any(max(item["probabilities"], key=item["probabilities"].get) != item["prediction"]["prediction"]
               for item in found)  # fmt: skip


def test_a_bulk_answers_in_order_and_says_how_far_it_is(site: Site) -> None:
    answer = site.bulk(*(toy.picture(seed) for seed in range(11)))
    assert answer.json().keys() == {"task_uuid", "num_images"} and answer.json()["num_images"] == 11
    path = f"/from_task/{answer.json()['task_uuid']}"
    waiting = site.client.get(path)
    assert waiting.status_code == 202 and waiting.headers["retry-after"] == "1"
    assert waiting.json() == {"state": "queued", "done": 0, "total": 11, "results": []}
    site.worker.finish(site.worker.take())
    some = site.client.get(path).json()
    assert (some["state"], some["done"], len(some["results"])) == ("running", 8, 8)
    all_of_them = site.results(answer)
    assert [item["name"] for item in all_of_them] == [f"{i}.jpg" for i in range(11)]
    assert all_of_them[:8] == some["results"]
    assert [item["index"] for item in all_of_them] == list(range(11))


def test_a_model_of_other_classes_labels_by_its_card(site: Site) -> None:
    [item] = site.results(site.client.post("/predict?model_id=two", content=toy.picture(size=(90, 30))))
    assert list(item["probabilities"]) == ["OTHER", "melanoma"]
    assert item["prediction"]["label"] == int(item["prediction"]["target"])
    assert item["map"] is None


def test_a_map_says_what_was_looked_at(site: Site) -> None:
    [item] = site.results(site.client.post("/predict?model_id=quick", content=toy.picture()))
    grid = item["map"]["grid"]
    assert item["map"]["box"] == [0, 0, 1, 1] and item["map"]["class"] == item["prediction"]["prediction"]
    assert len(grid) == len(grid[0]) == 16 and max(map(max, grid)) == 1 and min(map(min, grid)) >= 0


def test_bad_images_of_a_bulk_fail_alone(site: Site) -> None:
    good = toy.picture()
    found = site.results(site.bulk(good, b"text", good[: len(good) // 2], toy.bomb(), b"", bytes(10_000_001), good))
    assert [item["error"] is None for item in found] == [True, False, False, False, False, False, True]
    assert "neither JPEG nor PNG" in found[1]["error"] and "million pixels" in found[3]["error"]
    assert "10 MB" in found[5]["error"] and found[1]["prediction"] is None
    assert {tuple(item) for item in found} == {tuple(found[0])}


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 422, "no image"),
        (b"GIF89a", 415, "neither JPEG nor PNG"),
        (toy.picture()[:300], 422, "not a readable image"),
        (toy.picture(size=(7, 70)), 422, "fewer than 8"),
        (bytes(10_000_001), 413, "10 MB"),
    ],
)
def test_predict_refuses(site: Site, content: bytes, status: int, says: str) -> None:
    answer = site.client.post("/predict?model_id=quick", content=content)
    assert answer.status_code == status and says in answer.json()["detail"]
    assert site.worker.take() is None


def test_a_bomb_is_refused_by_its_header(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    content = toy.bomb()
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    assert len(content) < 200_000
    answer = site.client.post("/predict?model_id=quick", content=content)
    assert answer.status_code == 422 and "million pixels" in answer.json()["detail"]


def test_forms_are_read_as_they_are(site: Site) -> None:
    two = [("file", ("a.jpg", toy.picture())), ("file", ("b.jpg", toy.picture()))]
    assert site.client.post("/predict?model_id=quick", files=two).status_code == 422
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for body in (
        b"",
        b"--x",
        b"nonsense",
        b'--x\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\nabc',
    ):
        answer = site.client.post("/predict_bulk?model_id=quick", content=body, headers=kind)
        assert answer.status_code == 422 and answer.json()["detail"], body
    assert site.client.post("/predict_bulk?model_id=quick", content=toy.picture()).status_code == 422
    assert site.client.post("/predict_bulk?model_id=quick", data={"files": "text"}).status_code == 422


def test_unknown_models_are_named_with_those_there_are(site: Site) -> None:
    for path in ("/predict", "/predict?model_id=quack", "/predict_bulk?model_id=masks", "/predict?model_id=../x"):
        answer = site.client.post(path, content=toy.picture())
        assert answer.status_code == 400 and "quick, slow, two, views" in answer.json()["detail"]


def test_limits_of_requests(tmp_path: Path, served: Path) -> None:
    site = Site(tmp_path, served, request_images=2, request_mb=0.01, image_mb=0.005)
    small = toy.picture(size=(9, 9))
    assert site.bulk(small, small).status_code == 200
    assert site.bulk(small, small, small).status_code == 413
    assert site.bulk(bytes(11_000)).status_code == 413

    def streamed() -> Iterator[bytes]:  # no content-length
        yield b'--x\r\ncontent-disposition: form-data; name="files"; filename="a"\r\n\r\n'
        yield from [bytes(4000)] * 3

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert site.client.post("/predict_bulk?model_id=quick", content=streamed(), headers=kind).status_code == 413


def test_a_full_queue_and_too_many_uploads(tmp_path: Path, served: Path) -> None:
    site = Site(tmp_path, served, queued_images=2)
    assert site.bulk(toy.picture(), toy.picture()).status_code == 200
    answer = site.bulk(toy.picture())
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    site.work()
    site.app.state.server.receiving = site.settings.uploads
    answer = site.bulk(toy.picture())
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0


def test_cancelled_and_unknown_tasks(site: Site) -> None:
    path = f"/from_task/{site.bulk(toy.picture()).json()['task_uuid']}"
    batch = site.worker.take()
    assert site.client.delete(path).status_code == 204
    site.worker.finish(batch)
    assert site.client.get(path).status_code == 410
    assert site.client.delete(path).status_code == 404
    for unknown in ("x", "721445f5-ff37-4c99-af74-7157925b4a7c"):
        assert site.client.get(f"/from_task/{unknown}").status_code == 404
        assert site.client.delete(f"/from_task/{unknown}").status_code == 404


def test_tasks_expire_and_leave_no_picture(tmp_path: Path, served: Path) -> None:
    site = Site(tmp_path, served, keep=0.2)
    marked = toy.picture(comment=b"a mark that can be found" * 100)
    done, never = site.bulk(marked), None
    site.work()
    never = site.bulk(marked)
    database = tmp_path / "queue/tasks.sqlite"
    assert any(b"a mark" in path.read_bytes() for path in database.parent.glob("tasks*"))
    time.sleep(0.3)
    site.app.state.server.queue.tend()
    for task in (done, never):
        assert site.client.get(f"/from_task/{task.json()['task_uuid']}").status_code == 410
    assert not any(b"a mark" in path.read_bytes() for path in database.parent.glob("tasks*"))
    assert database.parent.stat().st_mode & 0o077 == 0


def test_a_picture_is_deleted_when_its_result_is_stored(site: Site, tmp_path: Path) -> None:
    site.results(site.bulk(toy.picture(comment=b"a mark that can be found" * 100)))
    site.app.state.server.queue.tend()
    assert not any(b"a mark" in path.read_bytes() for path in (tmp_path / "queue").glob("tasks*"))


def test_health_and_metrics(site: Site) -> None:
    assert site.client.get("/health/live").status_code == 200
    assert site.client.get("/health/ready").status_code == 503
    site.worker.queue.beat(site.worker.id, 3, 1)
    assert site.client.get("/health/ready").status_code == 200
    site.bulk(toy.picture(), toy.picture())
    text = site.client.get("/metrics").text
    assert 'lesions_images{state="queued"} 2' in text and "lesions_workers 1" in text
    assert re.search(r'lesions_worker_images_total\{worker=".*",state="done"\} 3', text)


def test_docs_come_from_this_server_alone(site: Site) -> None:
    page = site.client.get("/docs")
    assert "//" not in page.text
    for path in re.findall(r'(?:href|src)="((?!data:)[^"]+)"', page.text):
        assert site.client.get(f"/{path}").status_code == 200, path
    paths = site.client.get("/openapi.json").json()["paths"]
    assert {"/public_models", "/predict", "/predict_bulk", "/from_task/{task_uuid}"} <= paths.keys()


@pytest.mark.parametrize("path", ["/public_models", "/nowhere", "/health/live", "/from_task/x", "/"])
def test_security_headers_are_everywhere_and_cors_is_off(site: Site, path: str) -> None:
    answer = site.client.get(path, headers={"origin": "http://elsewhere"}, follow_redirects=False)
    headers = answer.headers
    assert headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' blob:")
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store" and "access-control-allow-origin" not in headers


def test_a_token_where_one_is_set(tmp_path: Path, served: Path) -> None:
    site = Site(tmp_path, served, token="secret")
    for path in ("/public_models", "/metrics", "/from_task/x"):
        assert site.client.get(path).status_code == 401
        assert site.client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert site.client.post("/predict?model_id=quick", content=toy.picture()).status_code == 401
    assert site.client.get("/public_models", headers={"authorization": "Bearer secret"}).status_code == 200
    assert site.client.get("/health/live").status_code == 200


def test_hosts_of_other_names_are_refused(tmp_path: Path, served: Path) -> None:
    site = Site(tmp_path, served, hosts="localhost")
    assert site.client.get("/public_models").status_code == 400
    assert site.client.get("/public_models", headers={"host": "localhost:8000"}).status_code == 200


def test_logs_name_no_picture_and_no_task(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answer = site.client.post("/predict?model_id=quick", files={"file": ("Jane Doe.jpg", toy.picture())})
    site.results(answer)
    text = "\n".join(record.getMessage() for record in caplog.records if record.name == "serving")
    assert "POST /predict 200" in text and "GET /from_task/{task_uuid} 200" in text
    assert "Jane" not in text and answer.json()["task_uuid"] not in text


def test_a_database_that_fails_is_a_503(site: Site) -> None:
    site.app.state.server.queue.engine.dispose()
    with site.app.state.server.queue.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tasks")
    answer = site.client.get("/from_task/x")
    assert answer.status_code == 503 and "retry-after" in answer.headers


def test_a_model_that_goes_or_is_damaged_is_an_items_error(tmp_path: Path) -> None:
    toy.model(tmp_path / "served/mine")
    site = Site(tmp_path, tmp_path / "served")
    (tmp_path / "served/mine/model.onnx").write_bytes(b"damaged")
    [item] = site.results(site.bulk(toy.picture(), model="mine"))
    assert "not the file that card.json names" in item["error"]
    (tmp_path / "served/mine/card.json").rename(tmp_path / "card.json")
    assert site.client.get("/public_models").json()["models"] == []
