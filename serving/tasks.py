"""Keep tasks in a database, SQLite or PostgreSQL, so that none is lost whatever process dies.

The unit is the image: arriving → queued → running (leased to a worker) → done or failed. A lease that ends, because
its worker died, puts the image back. Images wait by `turn`: a task's images count on from the smallest turn that waits
when it comes, so that tasks advance side by side, and one picture never waits behind a thousand.
"""

import json
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sql
from sqlalchemy import Column, Connection, Double, Index, Integer, LargeBinary, String, Table, Text, and_, func, select

from serving.settings import InputError, Settings

LOCK = 6_018_427  # PostgreSQL's, for what one process does at a time
FORGET = 24  # times `keep`, after which an expired or cancelled task is unknown
WAITING = ("queued", "running")
BUSY = (*WAITING, "arriving")
ENDED = ("done", "failed")

schema = sql.MetaData()
tasks = Table(
    "tasks", schema, Column("id", String(36), primary_key=True), Column("created", Double, nullable=False),
    Column("gone", String(10)),  # expired or cancelled
)  # fmt: skip
images = Table(
    "images", schema, Column("task", String(36), primary_key=True), Column("place", Integer, primary_key=True),
    Column("model", String(200), nullable=False), Column("name", Text, nullable=False),
    Column("size", Integer, nullable=False), Column("state", String(10), nullable=False),
    Column("turn", Integer, nullable=False), Column("tries", Integer, nullable=False), Column("owner", String(36)),
    Column("lease", Double), Column("changed", Double, nullable=False), Column("result", Text),
    Index("images_turn", "state", "turn", "task"),
)  # fmt: skip
uploads = Table(
    "uploads", schema, Column("task", String(36), primary_key=True), Column("place", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)  # fmt: skip
workers = Table(
    "workers", schema, Column("id", String(36), primary_key=True), Column("seen", Double, nullable=False),
    Column("done", Integer, nullable=False), Column("failed", Integer, nullable=False),
)  # fmt: skip


class QueueFullError(Exception):
    """Say that nothing more may be queued at this moment."""


@dataclass(frozen=True)
class Row:
    """An image that waits or is leased."""

    task: str
    place: int
    model: str
    name: str


@dataclass(frozen=True)
class Progress:
    """What is known of a task: `results` has the JSON of each image that has ended, by place."""

    gone: str | None
    total: int
    done: int
    started: bool
    results: list[str]


def failure(name: str, place: int, reason: str) -> str:
    """Return the JSON of an image that has no prediction: the fields of one that has, empty, and the reason."""
    empty = ("probabilities", "metadata", "prediction", "balanced", "familiarity", "map")
    return json.dumps({"name": name, **dict.fromkeys(empty), "index": place, "error": reason}, ensure_ascii=False)


def here(row: Row) -> Any:
    return and_(images.c.task == row.task, images.c.place == row.place)


class Queue:
    """The tables, and what is done with them; every method is one short transaction."""

    def __init__(self, settings: Settings) -> None:
        """Connect, and make the tables where there are none. Raises InputError if that does not work."""
        self.settings, self.sqlite = settings, settings.queue.startswith("sqlite")
        try:
            if self.sqlite:
                self._folder()
            options = {"connect_args": {"timeout": 30}} if self.sqlite else {"pool_pre_ping": True, "pool_size": 10}
            self.engine = sql.create_engine(settings.queue, **options)
            if self.sqlite:
                sql.event.listen(self.engine, "connect", self._pragmas)
                sql.event.listen(self.engine, "begin", lambda c: c.exec_driver_sql(
                    "BEGIN" if c.get_execution_options().get("reading") else "BEGIN IMMEDIATE"))  # fmt: skip
            self.reading = self.engine.execution_options(reading=True)
            with self.engine.begin() as c:
                if not self.sqlite:
                    c.execute(select(func.pg_advisory_xact_lock(LOCK)))
                schema.create_all(c)
        except (sql.exc.SQLAlchemyError, ImportError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            expected = "sqlite:///path, or postgresql+psycopg://user:password@host/name of a server that runs"
            raise InputError(f"LESIONS_QUEUE: no database ({reason}); expected {expected}") from None

    def _folder(self) -> None:
        """Make the folder of SQLite's file for its owner alone; git leaves it out."""
        path = sql.make_url(self.settings.queue).database
        if path and not (folder := Path(path).parent).exists():
            folder.mkdir(parents=True, mode=0o700)
            (folder / ".gitignore").write_text("*\n")

    @staticmethod
    def _pragmas(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # BEGIN is said above
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def now(self, c: Connection) -> float:
        """Return the time, the database's own where several machines share it."""
        if self.sqlite:
            return time.time()
        return float(c.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def create(self) -> str:
        """Begin a task; its images may follow. Raises QueueFullError."""
        with self.engine.begin() as c:
            busy = images.c.state.in_(BUSY)
            total = select(func.count(), func.coalesce(func.sum(images.c.size), 0))
            count, size = c.execute(total.where(busy)).one()
            if count >= self.settings.queued_images or size >= self.settings.queued_mb * 1e6:
                raise QueueFullError
            task = str(uuid4())
            c.execute(tasks.insert().values(id=task, created=self.now(c)))
        return task

    def add(self, task: str, model: str, arrived: Iterable[tuple[int, str, bytes, str | None]]) -> None:
        """Keep (place, name, content, error) of images that have arrived; one with an error has failed already."""
        with self.engine.begin() as c:
            now, rows, contents = self.now(c), [], []
            for place, name, content, error in arrived:
                rows.append({
                    "task": task, "place": place, "model": model, "name": name, "size": len(content), "turn": place,
                    "tries": 0, "changed": now, "state": "failed" if error else "arriving",
                    "result": failure(name, place, error) if error else None,
                })  # fmt: skip
                if not error:
                    contents.append({"task": task, "place": place, "content": content})
            if rows:
                c.execute(images.insert(), rows)
            if contents:
                c.execute(uploads.insert(), contents)

    def start(self, task: str) -> None:
        """Queue a task whose images have all arrived."""
        with self.engine.begin() as c:
            now = self.now(c)
            first = c.execute(select(func.min(images.c.turn)).where(images.c.state.in_(WAITING))).scalar() or 0
            mine = and_(images.c.task == task, images.c.state == "arriving")
            c.execute(images.update().where(mine).values(state="queued", turn=images.c.place + first, changed=now))

    def end(self, task: str, how: str) -> bool:
        """Cancel a task, or let it expire: images, names and results go. Return whether there was one."""
        with self.engine.begin() as c:
            return self._end(c, task, how)

    def _end(self, c: Connection, task: str, how: str) -> bool:
        there = and_(tasks.c.id == task, tasks.c.gone.is_(None))
        found = c.execute(tasks.update().where(there).values(gone=how)).rowcount == 1
        for table in (images, uploads) if found else ():
            c.execute(table.delete().where(table.c.task == task))
        return found

    def progress(self, task: str) -> Progress | None:
        with self.reading.begin() as c:
            found = c.execute(select(tasks.c.gone).where(tasks.c.id == task)).first()
            columns = select(images.c.state, images.c.result).where(images.c.task == task).order_by(images.c.place)
            rows = c.execute(columns).all() if found else []
        if not found:
            return None
        results = [row.result for row in rows if row.state in ENDED]
        return Progress(found.gone, len(rows), len(results), any(row.state != "queued" for row in rows), results)

    def claim(self, worker: str, most: int) -> list[Row]:
        """Lease up to `most` images of one model, those whose turn it is. One that was tried before comes alone, so
        that an image that kills its worker takes no other with it."""
        columns = select(images.c.task, images.c.place, images.c.model, images.c.name, images.c.tries)
        query = columns.where(images.c.state == "queued").order_by(images.c.turn, images.c.task)
        query = query.with_for_update(skip_locked=True)  # SQLite has no such clause, and locks as a whole
        with self.engine.begin() as c:
            found = c.execute(query.limit(1)).all()
            if found and most > 1 and found[0].tries == 0:
                found = c.execute(query.where(images.c.model == found[0].model, images.c.tries == 0).limit(most)).all()
            now = self.now(c)
            rows = [Row(*row[:4]) for row in found]
            for row in rows:
                values = {"state": "running", "owner": worker, "lease": now + self.settings.lease, "changed": now}
                c.execute(images.update().where(here(row)).values(tries=images.c.tries + 1, **values))
        return rows

    def contents(self, rows: list[Row]) -> list[bytes | None]:
        """Return the pictures of leased rows; None where a task was cancelled meanwhile."""
        keys = sql.tuple_(uploads.c.task, uploads.c.place).in_([(row.task, row.place) for row in rows])
        with self.reading.begin() as c:
            found = {(row.task, row.place): row.content for row in c.execute(select(uploads).where(keys))}
        return [found.get((row.task, row.place)) for row in rows]

    def store(self, worker: str, results: list[tuple[Row, str, str]]) -> None:
        """Store (row, done or failed, JSON) and delete the pictures, of rows that are still leased to `worker`."""
        with self.engine.begin() as c:
            now = self.now(c)
            for row, state, result in results:
                mine = and_(here(row), images.c.owner == worker, images.c.state == "running")
                values = {"state": state, "result": result, "changed": now}
                if c.execute(images.update().where(mine).values(**values)).rowcount:
                    c.execute(uploads.delete().where(uploads.c.task == row.task, uploads.c.place == row.place))

    def release(self, worker: str, rows: list[Row], tried: bool) -> None:
        """Give rows back: at once to be taken again, alone and for one of their tries if they were `tried`."""
        with self.engine.begin() as c:
            for row in rows:
                mine = and_(here(row), images.c.owner == worker, images.c.state == "running")
                change = {} if tried else {"tries": images.c.tries - 1}
                c.execute(images.update().where(mine).values(state="queued", **change))
            self._give_up(c)

    def beat(self, worker: str, done: int, failed: int) -> None:
        """Say that a worker lives, what it has done so far, and renew its leases."""
        with self.engine.begin() as c:
            now, me = self.now(c), workers.c.id == worker
            values = {"seen": now, "done": done, "failed": failed}
            if not c.execute(workers.update().where(me).values(**values)).rowcount:
                c.execute(workers.insert().values(id=worker, **values))
            mine = and_(images.c.state == "running", images.c.owner == worker)
            c.execute(images.update().where(mine).values(lease=now + self.settings.lease))

    def leave(self, worker: str) -> None:
        with self.engine.begin() as c:
            c.execute(workers.delete().where(workers.c.id == worker))

    def _give_up(self, c: Connection) -> None:
        """Let fail what waits and was tried often enough."""
        spent = and_(images.c.state == "queued", images.c.tries >= self.settings.tries)
        for row in c.execute(select(images.c.task, images.c.place, images.c.model, images.c.name).where(spent)).all():
            reason = f"no prediction in {self.settings.tries} tries"
            values = {"state": "failed", "result": failure(row.name, row.place, reason), "changed": self.now(c)}
            c.execute(images.update().where(here(Row(*row))).values(**values))
            c.execute(uploads.delete().where(uploads.c.task == row.task, uploads.c.place == row.place))

    def tend(self) -> None:
        """Put back what dead workers held, let old tasks expire, forget older ones; one process at a time does it."""
        with self.engine.begin() as c:
            if not self.sqlite and not c.execute(select(func.pg_try_advisory_xact_lock(LOCK))).scalar():
                return
            now, keep = self.now(c), self.settings.keep
            lost = and_(images.c.state == "running", images.c.lease < now)
            c.execute(images.update().where(lost).values(state="queued"))
            self._give_up(c)
            of = select(func.max(images.c.changed)).where(images.c.task == tasks.c.id).scalar_subquery()
            old = and_(tasks.c.gone.is_(None), tasks.c.created < now - keep)
            for task in c.execute(select(tasks.c.id).where(old, func.coalesce(of, 0) < now - keep)).scalars().all():
                self._end(c, task, "expired")
            c.execute(tasks.delete().where(tasks.c.gone.is_not(None), tasks.c.created < now - FORGET * keep))
            c.execute(workers.delete().where(workers.c.seen < now - keep))
            idle = not c.execute(select(images.c.task).where(images.c.state.in_(BUSY)).limit(1)).first()
        if self.sqlite and idle:  # nor shall a picture stay in the log of what was written
            with closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def alive(self) -> bool:
        """Return whether the database answers and a worker was heard of within a lease."""
        with self.reading.begin() as c:
            seen = c.execute(select(func.max(workers.c.seen))).scalar()
            return seen is not None and seen >= self.now(c) - self.settings.lease

    def figures(self) -> dict[str, Any]:
        """Return images by state, seconds that the first in line has waited, and what each worker has done."""
        with self.reading.begin() as c:
            now = self.now(c)
            states = dict(c.execute(select(images.c.state, func.count()).group_by(images.c.state)).all())
            since = c.execute(select(func.min(images.c.changed)).where(images.c.state == "queued")).scalar()
            each = c.execute(select(workers).where(workers.c.seen >= now - self.settings.lease)).all()
        return {"states": states, "waited": now - since if since else 0.0, "workers": each}
