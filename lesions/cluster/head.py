"""Give stages to workers once what they depend on is done; write dvc.lock as a serial run from nothing leaves it."""

import csv
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import psutil
from distributed import Future
from dvc.lock import LockBase, LockError, make_lock
from dvc.repo import Repo
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dump_yaml, load_yaml
from tqdm import tqdm

from lesions.cluster import joining, plan, task
from lesions.cluster.engine import Engine
from lesions.cluster.remaining import Remaining
from lesions.core.errors import InputError
from lesions.core.files import replacing

GRACE = 10  # seconds from SIGTERM to SIGKILL
GATHER = 20  # seconds for a result to come from its worker
LOOK_EVERY = 1  # second between two looks at who joined
WRITE_EVERY = 30  # seconds between two writings of dvc.lock: it is parsed and written whole
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"
COLUMNS = ("stage", "host", "machine", "gpu", "seconds", "ended")


class Head:
    """A run of the stages of `graph`: all `home`, or there those alone that must be, and the others `away`.

    whole: all stages in the order of dvc.lock, and what each depends on.
    """

    def __init__(
        self, repo: Repo, graph: plan.Graph, home: Engine, away: Engine | None, whole: tuple[list[str], plan.Graph],
        remaining: Remaining,
    ) -> None:  # fmt: skip
        self.repo, self.graph, self.remaining = repo, graph, remaining
        self.order, self.depends = whole
        self.stages = {stage.addressing: stage for stage in repo.index.stages}
        bound = plan.at_home(self.stages) if away else set(graph)
        self.engine = {name: home if name in bound else away or home for name in graph}
        self.home, self.away = home, away
        self.running, self.failed, self.lost = dict[str, Future](), list[str](), list[str]()
        self.afar, self.elsewhere = list[str](), set[str]()  # what ran away; of it, what is not here yet
        self.unwritten, self.written, self.looked = dict[str, task.Entry](), time.monotonic(), 0.0
        self.told = set[str]()  # lines that are said once
        self.messages: Queue[Callable[[], str | None]] = Queue()

    def run(self, keep_going: bool) -> list[str]:
        """Run the stages; return those that failed. Raises InputError if the scheduler is lost."""
        sorter: TopologicalSorter[str] = TopologicalSorter(self.graph)
        sorter.prepare()
        urgent = plan.urgency(self.graph, self.remaining.work)
        order = sorted(self.graph, key=urgent.__getitem__, reverse=True)  # else as dvc.yaml has them
        place, ready = {name: number for number, name in enumerate(order)}, list[str]()
        plan.LOGS.mkdir(parents=True, exist_ok=True)
        for engine in set(self.engine.values()):
            engine.client.subscribe_topic(task.TOPIC, lambda event: self.messages.put(lambda: self.hear(event[1])))
        self.offer()
        if self.away:
            tell(f"Dask's pages: {self.away.client.dashboard_link} (they ask for bokeh on the scheduler's machine)")
        with tqdm(total=len(self.graph), desc="stages", bar_format=BAR) as progress:
            try:
                while True:
                    self.look()
                    ready = sorted([*ready, *sorter.get_ready()], key=place.__getitem__)
                    stopping = self.lost or (self.failed and not keep_going)
                    for name in [] if stopping else list(ready):
                        if self.engine[name].has_room(plan.needs(self.stages[name])):
                            ready.remove(name)
                            self.begin(name, place[name])
                        else:
                            self.tell_if_none_fits(name)
                    if not self.running and (stopping or not ready):
                        break
                    for name in self.listen():
                        progress.update()
                        progress.set_postfix_str(self.time_left())
                        if name not in self.failed:  # what depends on a failed one never becomes ready
                            sorter.done(name)
                    if time.monotonic() - self.written > WRITE_EVERY:
                        self.write(self.repo.lock)
                self.write(self.repo.lock)
                self.fetch()
            except BaseException:
                self.end()
                raise
        if self.lost and not self.failed:
            raise InputError(f"{', '.join(self.lost)}: the scheduler or all workers were lost; run again to go on")
        return self.failed

    def time_left(self) -> str:
        """Return about how long what is not done will take with the workers of now."""
        never = set(self.failed)  # and what depends on them
        for name, before in self.graph.items():
            if before & never:
                never.add(name)
        names = [name for name in self.graph if name not in self.remaining.took and name not in never]
        seconds = self.remaining.seconds(names, len((self.away or self.home).workers))
        return "" if seconds is None else f"about {tqdm.format_interval(seconds)} left"

    def look(self) -> None:
        if self.away and time.monotonic() - self.looked > LOOK_EVERY:
            before = len(self.away.workers)
            for why in self.away.look():
                tell(f"refused: {why}")
            if before != len(self.away.workers) or not self.looked:
                tell(f"{len(self.away.workers)} workers" + ("" if self.away.workers else ": waiting for the first"))
            if self.away.run.machine not in ("", mine := joining.machine()):
                self.tell_once(
                    f"this machine is another model ({mine}) than the workers ({self.away.run.machine}): what runs "
                    "here may leave other bytes than there; machines.csv has what ran where"
                )
            self.looked = time.monotonic()

    def tell_once(self, line: str) -> None:
        if line not in self.told:
            self.told.add(line)
            tell(line)

    def tell_if_none_fits(self, name: str) -> None:
        """Say, once for each need, that stages wait for a worker that nobody has started yet."""
        engine = self.engine[name]
        asked = engine.asked(plan.needs(self.stages[name]))
        if engine.workers and not engine.fit(asked):
            words = " ".join(f"{what}={amount:g}" for what, amount in asked.items())
            self.tell_once(f'stages wait for a worker with --resources "{words}" (meta in dvc.yaml); none here has it')

    def offer(self) -> None:
        """Push to DVC's remote what stages elsewhere will read and no stage makes, where that is the way."""
        if self.away and self.away.run.remote:
            self.home.run = self.home.run._replace(remote=True)
            for name in set().union(*(self.depends[one] for one in self.graph)) - set(self.graph):
                for objects in self.stages[name].get_used_objs().values():
                    task.sent(self.repo.cloud.push(objects))

    def begin(self, name: str, place: int) -> None:
        stage, engine = self.stages[name], self.engine[name]
        before = sorted(self.depends[name])
        files = {}
        if engine is self.away:
            told = [*before, name]
            files = plan.small_files(stage, [self.stages[one] for one in before], Path(self.repo.root_dir))
        else:
            told = [one for one in before if one in self.elsewhere]
            self.elsewhere -= set(told)
        entries = {one: to_lockfile(self.stages[one])[one] for one in told if plan.known(self.stages[one])}
        future = engine.give(name, plan.needs(stage), place, entries, files, str(plan.log_of(name)))
        self.running[name] = future
        self.await_end(name)

    def await_end(self, name: str) -> None:
        self.running[name].add_done_callback(lambda _: self.messages.put(lambda: self.ended(name)))

    def listen(self) -> list[str]:
        """Wait for messages, a look's time at most; return the stages that have ended."""
        found, wait = list[str](), float(LOOK_EVERY)
        while True:
            try:
                name = self.messages.get(timeout=wait)()
            except Empty:
                return found
            found += [name] if name else []
            wait = 0.0

    def hear(self, message: dict[str, Any]) -> None:
        """Note that a stage began, or what it said elsewhere."""
        name = message["stage"]
        if "log" in message:
            with plan.log_of(name).open("ab") as log:
                log.write(message["log"])
            return
        if self.engine.get(name) is self.away:
            plan.log_of(name).write_bytes(b"")
        gpu = f" on GPU {message['gpu']}" if message["gpu"] else ""
        tell(f"{name}: begun{gpu}{self.where(name, message['host'])}")

    def where(self, name: str, host: str) -> str:
        return f" on {host}" if self.engine.get(name) is self.away else ""

    def ended(self, name: str) -> str | None:
        """Note how a stage ended; return it unless nobody knows."""
        future = self.running[name]
        try:
            error = None if future.cancelled() else future.exception(GATHER)
            done = {} if future.cancelled() or error else future.result(GATHER)
        except TimeoutError:  # the worker that had the result was lost: another one runs the stage
            self.await_end(name)
            return None
        self.running.pop(name)
        self.engine[name].given.pop(name)
        if future.cancelled():
            self.lost.append(name)
            return None
        if error is not None:
            with plan.log_of(name).open("a", encoding="utf-8") as log:
                log.write(f"error: {error}\n")
            tell(f"{name}: failed")
            self.failed.append(name)
            return name
        self.keep(name, done)
        return name

    def keep(self, name: str, done: dict[str, Any]) -> None:
        """Note what a stage that is done has left."""
        if self.engine[name] is self.away:
            task.put(done["files"], [self.stages[name]], Path(self.repo.root_dir))
            self.afar.append(name)
            self.elsewhere.add(name)
        self.unwritten[name] = done["entry"]
        StageLoader.fill_from_lock(self.stages[name], done["entry"])
        self.remaining.took[name] = done["seconds"]
        tell(f"{name}: done after {done['seconds']:.0f} s{self.where(name, done['host'])}")
        new = not plan.MACHINES.exists()
        with plan.MACHINES.open("a", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            if new:
                table.writeheader()
            table.writerow(done | {"stage": name, "seconds": f"{done['seconds']:.1f}", "ended": time.strftime("%FT%T")})

    def write(self, lock: LockBase) -> None:
        """Put the entries of what is done into dvc.lock and sort it; stages that dvc.yaml has not come last."""
        if self.unwritten:
            place = {name: number for number, name in enumerate(self.order)}
            with lock, replacing(Path("dvc.lock")) as part:
                held = load_yaml("dvc.lock") if Path("dvc.lock").exists() else {}
                stages = (held.get("stages") or {}) | self.unwritten
                names = sorted(stages, key=lambda name: place.get(name, len(place)))
                dump_yaml(part, {"schema": "2.0", **held, "stages": {name: stages[name] for name in names}})
        self.unwritten, self.written = {}, time.monotonic()

    def fetch(self) -> None:
        """Bring what stages left elsewhere, and DVC's records of the runs: going back to them trains nothing."""
        entries = {name: to_lockfile(self.stages[name])[name] for name in sorted(self.elsewhere)}
        task.bring(self.home.run, self.repo, self.stages, entries)
        for name in self.afar if self.home.run.remote else []:
            if task.has_record(self.stages[name]):
                task.copy_runs(self.stages[name], push=False)

    def end(self) -> None:
        """End all stages of this machine; those elsewhere finish, and the next run takes them over.

        Hold DVC's lock meanwhile, if it is free within seconds, so that none is cut off in writing DVC's files. What
        cannot be written to dvc.lock now, the next run has from DVC's run-cache.
        """
        lock = make_lock(self.repo.lock.lockfile, self.repo.tmp_dir)
        with ExitStack() as stack:
            with suppress(LockError):
                stack.enter_context(lock)
            workers = [one for one in psutil.Process().children() if "resource_tracker" not in " ".join(one.cmdline())]
            found = [one for process in workers for one in process.children(recursive=True)]
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.terminate()
            for process in [*psutil.wait_procs(found, GRACE)[1], *workers]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs([*found, *workers], GRACE)
        with suppress(LockError):
            self.write(lock)


def said(name: str) -> str:
    """Return the stage's own error, or the last line of its log."""
    path = plan.log_of(name)
    text = path.read_text(errors="replace") if path.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["nothing"])[0 if errors else -1].removeprefix("error: ")


def tell(line: str) -> None:
    tqdm.write(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stdout)
    sys.stdout.flush()
