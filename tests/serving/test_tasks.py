"""The queue, on both databases: leases, tries, turns, expiry."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy

from serving.settings import InputError, Settings
from serving.tasks import Queue, failure


@pytest.fixture
def queue(database: str) -> Iterator[Queue]:
    made = Queue(replace(Settings(queue=database), lease=0.001))
    yield made
    made.engine.dispose()


def queued(queue: Queue, images: int, model: str = "m") -> str:
    task = queue.create()
    queue.add(task, model, [(i, f"{i}.jpg", b"content", None) for i in range(images)])
    queue.start(task)
    return task


def lapse(queue: Queue) -> None:
    """Let leases end, and what is old expire."""
    time.sleep(0.01)
    queue.tend()


def ended(queue: Queue, worker: str, rows: list) -> None:
    queue.store(worker, [(row, "done", json.dumps({"name": row.name})) for row in rows])


def test_images_come_in_order_and_with_their_pictures(queue: Queue) -> None:
    task = queued(queue, 10)
    rows = queue.claim("a", 8)
    assert [row.place for row in rows] == list(range(8)) and {row.task for row in rows} == {task}
    assert queue.contents(rows) == [b"content"] * 8
    ended(queue, "a", rows)
    assert queue.contents(rows) == [None] * 8
    assert queue.progress(task).done == 8
    assert len(queue.claim("a", 8)) == 2 and queue.claim("a", 8) == []


def test_what_is_arriving_waits(queue: Queue) -> None:
    task = queue.create()
    queue.add(task, "m", [(0, "a", b"content", None)])
    assert queue.claim("a", 8) == []
    queue.start(task)
    assert len(queue.claim("a", 8)) == 1


def test_one_picture_does_not_wait_behind_a_thousand(queue: Queue) -> None:
    bulk = queued(queue, 100)
    for _ in range(3):
        ended(queue, "a", queue.claim("a", 8))
    one = queued(queue, 1)
    assert one in {row.task for row in queue.claim("a", 8)}
    other = queued(queue, 100)
    taken = [row.task for _ in range(4) for row in queue.claim("a", 8)]
    assert abs(taken.count(bulk) - taken.count(other)) <= 8  # side by side


def test_a_batch_is_of_one_model_and_models_take_turns(queue: Queue) -> None:
    queued(queue, 20, "m")
    queued(queue, 20, "n")
    batches = [{row.model for row in queue.claim("a", 8)} for _ in range(4)]
    assert all(len(models) == 1 for models in batches)
    assert [models.pop() for models in batches].count("m") == 2


def test_a_lease_that_ends_gives_its_image_to_others(queue: Queue) -> None:
    task = queued(queue, 3)
    first = queue.claim("a", 8)
    lapse(queue)
    second = [row for _ in range(3) for row in queue.claim("b", 8)]
    assert sorted(second, key=lambda row: row.place) == first
    ended(queue, "a", first)  # too late
    assert queue.progress(task).done == 0 and queue.contents(first) == [b"content"] * 3
    ended(queue, "b", second)
    assert queue.progress(task).done == 3


def test_a_heartbeat_renews_leases(queue: Queue) -> None:
    queued(queue, 3)
    queue.claim("a", 8)
    queue.settings = replace(queue.settings, lease=30)
    queue.beat("a", 0, 0)
    lapse(queue)
    assert queue.claim("b", 8) == []
    assert queue.alive()
    queue.leave("a")
    assert not queue.alive()


def test_an_image_that_was_tried_comes_alone_and_thrice(queue: Queue) -> None:
    task = queued(queue, 3)
    assert len(queue.claim("a", 8)) == 3
    lapse(queue)
    for _ in range(2):
        for _ in range(3):
            assert len(queue.claim("a", 8)) == 1
        lapse(queue)
    assert queue.claim("a", 8) == []
    found = queue.progress(task)
    assert found.done == found.total == 3
    assert json.loads(found.results[0])["error"] == "no prediction in 3 tries"
    with queue.reading.begin() as c:
        assert c.execute(sqlalchemy.text("SELECT count(*) FROM uploads")).scalar() == 0


def test_what_is_given_back_untried_loses_no_try(queue: Queue) -> None:
    queued(queue, 3)
    for _ in range(5):
        rows = queue.claim("a", 8)
        assert len(rows) == 3
        queue.release("a", rows, tried=False)


def test_expired_tasks_are_known_for_a_while(queue: Queue) -> None:
    task = queued(queue, 3)
    queue.settings = replace(queue.settings, keep=1e-3)
    lapse(queue)
    assert queue.progress(task) is None or queue.progress(task).gone == "expired"
    queue.settings = replace(queue.settings, keep=1e-6)
    lapse(queue)
    assert queue.progress(task) is None
    assert queue.progress("x") is None


def test_names_of_all_kinds_are_kept(queue: Queue) -> None:
    task = queue.create()
    queue.add(task, "m", [(0, "a'\";--\u202e🙂", b"", "reason")])
    [result] = queue.progress(task).results
    assert json.loads(result)["name"] == "a'\";--\u202e🙂"
    assert json.loads(failure("n", 0, "r"))["error"] == "r"


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////proc/none/tasks.sqlite",
                                 "postgresql+psycopg://nobody@127.0.0.1:1/none"])  # fmt: skip
def test_a_wrong_database_is_one_line(url: str) -> None:
    with pytest.raises(InputError, match=r"^LESIONS_QUEUE: no database \(.*\); expected sqlite"):
        Queue(Settings(queue=url))
