"""Take images from the queue, predict, store what came out: as many workers as wanted, on any machine.

    python -m serving.worker

While a batch is predicted the next one is taken and decoded. A batch takes about half a second at most, so that a
picture that has just come need not wait long.
"""

import argparse
import json
import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from uuid import uuid4

import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from serving import models, prepare, settings
from serving.settings import InputError, Settings
from serving.tasks import Queue, Row, failure

IDLE = 0.05  # seconds between two looks at an empty queue
BATCH_SECONDS = 0.4
log = logging.getLogger("serving")


class Batch(NamedTuple):
    """Rows of one model, decoded; `failed` has (row, reason) of those that could not be."""

    model: models.Model | None
    rows: list[Row]
    pixels: list[np.ndarray]
    seen: list[list[float]]
    failed: list[tuple[Row, str]]


class Worker:
    """One worker, of one thread that predicts, one that decodes, and one that says that it lives."""

    def __init__(self, told: Settings, parent: int | None = None) -> None:
        self.settings, self.parent = told, parent
        self.queue = Queue(told)
        self.id, self.stopped = str(uuid4()), threading.Event()
        self.done = self.failed = 0
        self.most = told.batch
        self.decoders = ThreadPoolExecutor(told.threads or os.cpu_count())

    def take(self) -> Batch | None:
        """Lease and decode the next batch; None if nothing waits."""
        rows, told = self.queue.claim(self.id, self.most), self.settings
        if not rows:
            return None
        try:
            model = models.get(rows[0].model, self.settings)
        except InputError as error:
            return Batch(None, [], [], [], [(row, str(error)) for row in rows])
        size, fit, contents = model.size, model.fit, self.queue.contents(rows)
        found = self.decoders.map(lambda content: prepare.read(content, told.image_mpx, size, fit), contents)
        batch = Batch(model, [], [], [], [])
        for row, each in zip(rows, found, strict=True):
            if isinstance(each, str):
                batch.failed.append((row, each))
            else:
                batch.rows.append(row)
                batch.pixels.append(each[0])
                batch.seen.append(each[1])
        return batch

    def finish(self, batch: Batch) -> None:
        """Predict a batch and store what came out. An error gives its rows back, to be tried alone."""
        results = [(row, "failed", failure(row.name, row.place, reason)) for row, reason in batch.failed]
        if batch.model and batch.rows:
            begun = time.perf_counter()
            try:
                answers = batch.model.predict(np.stack(batch.pixels), batch.seen)
            except Exception:
                log.exception("a batch of %s failed", batch.rows[0].model)
                self.queue.release(self.id, batch.rows, tried=True)
                answers = []
            pace = (time.perf_counter() - begun) / len(batch.rows)
            self.most = max(1, min(self.settings.batch, int(BATCH_SECONDS / max(pace, 1e-6))))
            for row, answer in zip(batch.rows, answers, strict=False):
                told = {"name": row.name, **answer, "index": row.place, "error": None}
                results.append((row, "done", json.dumps(told, ensure_ascii=False)))
        self.queue.store(self.id, results)
        self.failed += len(batch.failed)
        self.done += len(results) - len(batch.failed)

    def taken(self) -> Batch | None:
        """Return what `take` does; a database that does not answer is waited for."""
        try:
            return self.take()
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", type(error).__name__)
            self.stopped.wait(1)
            return None

    def heart(self) -> None:
        """Say again and again that this worker lives, and tend the queue."""
        while not self.stopped.wait(min(1.0, self.settings.lease / 4)):
            if self.parent and os.getppid() != self.parent:
                log.warning("the server has gone; its worker ends")
                self.stopped.set()
            try:
                self.queue.beat(self.id, self.done, self.failed)
                self.queue.tend()
            except SQLAlchemyError as error:
                log.warning("the database does not answer: %s", type(error).__name__)

    def run(self) -> None:
        """Work until stopped; then finish what is begun and give back what is only taken."""
        self.queue.beat(self.id, 0, 0)
        threading.Thread(target=self.heart, daemon=True).start()
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.taken)
            while not self.stopped.is_set():
                batch = coming.result()
                coming = ahead.submit(self.taken)
                if batch is None:
                    self.stopped.wait(IDLE)
                    continue
                try:
                    self.finish(batch)
                except SQLAlchemyError as error:  # the lease ends, and the images are tried again
                    log.warning("the database does not answer: %s", type(error).__name__)
            if batch := coming.result():
                self.queue.release(self.id, [*batch.rows, *(row for row, _ in batch.failed)], tried=False)
        self.queue.leave(self.id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parent", type=int, help="end when the process of this number, which started it, has ended")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format=settings.LOG)
    worker = Worker(settings.read(), args.parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stopped.set())
    worker.run()


if __name__ == "__main__":
    settings.run(main)
