"""Find where stages run: worker processes on this machine, a Dask scheduler's workers, or Slurm's jobs.

One stage a worker at a time. Dask finds a worker that is free and has what a stage needs; the stage of a lost worker it
gives to another.
"""

import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cloudpickle
import dask
from distributed import Client, Future, LocalCluster, fire_and_forget
from distributed.security import Security
from dvc.repo import Repo

from lesions.cluster import joining, sources, task
from lesions.cluster.joining import Run
from lesions.core import config
from lesions.core.errors import InputError

QUIET = {  # Dask looks after tasks of milliseconds; ours take seconds to days, and the cores are theirs
    "worker.profile.enabled": False, "admin.tick.interval": "1s", "admin.tick.limit": "1h",
    "admin.system-monitor.interval": "10s", "scheduler.work-stealing": False,
    "scheduler.worker-ttl": None,  # a machine that slept has lost nobody
}  # fmt: skip
NAME = "lesions"  # of a head among a scheduler's clients
SLURM_WAIT = 60  # seconds for sbatch to say whether it would take a job
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CERTIFICATES = Path(".certificates")
FILES = {"tls_ca_file": "ca.pem", "tls_client_cert": "cert.pem", "tls_client_key": "key.pem"}
PASSED = (
    *task.NANNYS,
    "PYTHONHASHSEED",
    "TF_CPP_MIN_LOG_LEVEL",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "TQDM_MININTERVAL",
)

for module in (joining, task):
    cloudpickle.register_pickle_by_value(module)


class ByValue(partial):
    """A call of lesions/cluster/task.py's or joining.py's that unpickles where nothing of ours is installed."""

    def __reduce__(self) -> tuple:
        return cloudpickle.loads, (cloudpickle.dumps(partial(self.func, *self.args, **self.keywords)),)


class Engine:
    """Workers that stages can be given to.

    count: of workers, where they are this machine's. Else `look` makes those that join ready, or refuses them: all but
    one model of machine unless `mix`.
    """

    def __init__(self, client: Client, run: Run, count: int = 0, sources: bytes = b"", mix: bool = False) -> None:
        self.client, self.run, self.sources, self.mix = client, run, sources, mix
        self.again: Callable[[], Any] = lambda: None  # called before each look
        self.workers: dict[str, dict[str, float]] = {str(number): {} for number in range(count)}  # address -> resources
        self.refused = set[str]()
        self.given: dict[str, dict[str, float]] = {}  # stage under way -> what it needs

    def look(self) -> Iterator[str]:
        """Make workers that joined ready, forget those that left; yield why one is refused."""
        if not self.run.apart or self.client.status == "connecting":
            return
        if self.client.status != "running":
            raise InputError("the scheduler is lost; start it and run again to go on")
        self.again()
        try:
            there = self.client.sync(self.client.scheduler.identity, n_workers=-1)["workers"]
        except OSError:  # lost this moment: the next look says so, unless it is back
            return
        self.refused &= set(there)
        for address in there:
            if address in self.refused or (self.run.key in there[address]["resources"] and address in self.workers):
                continue
            try:
                ready = ByValue(joining.prepare, self.run, self.sources)
                why, machine = self.client.run(ready, workers=[address])[address]
            except Exception as error:  # it left meanwhile, or has no environment to unpickle this in
                why, machine = f"cannot be made ready ({type(error).__name__}: {str(error)[:200]})", ""
            if why:
                self.refused.add(address)
                yield f"{there[address]['name']} ({address}): {why}"
                continue
            self.client.run_on_scheduler(ByValue(joining.wake), address=address)
            self.workers[address] = there[address]["resources"]
            if not self.mix:
                self.run = self.run._replace(machine=machine)
        self.workers = {address: found for address, found in self.workers.items() if address in there}

    def asked(self, needs: dict[str, float]) -> dict[str, float]:
        """Return what of `needs` any worker declares: where none says that it has a GPU, all are asked."""
        declared = {name for found in self.workers.values() for name in found}
        return {name: amount for name, amount in needs.items() if name in declared}

    def fit(self, asked: dict[str, float]) -> int:
        """Return how many workers declare so much."""
        return sum(
            all(found.get(name, 0) >= amount for name, amount in asked.items()) for found in self.workers.values()
        )

    def has_room(self, needs: dict[str, float]) -> bool:
        """Say whether a worker is free for a stage that needs so much."""
        asked = self.asked(needs)
        taken = sum(asked == other for other in self.given.values())
        return len(self.given) < len(self.workers) and taken < self.fit(asked)

    def give(self, name: str, needs: dict[str, float], place: int, *args: Any) -> Future:
        """Give a stage to a worker; take over what a head that was killed had given, if it is the very same."""
        self.given[name] = self.asked(needs)
        key = f"{name}-{self.run.key}-{sha256(repr(args).encode()).hexdigest()[:16]}"
        resources = self.given[name] | ({self.run.key: 1} if self.run.apart else {})
        done = ByValue(task.reproduce, self.run, name)
        future = self.client.submit(done, *args, key=key, resources=resources, priority=-place, retries=0, pure=False)
        if self.run.apart:
            fire_and_forget(future)
        return future


def here(repo: Repo) -> Run:
    """Return the run of workers that work in the repository itself."""
    return Run("here", str(repo.root_dir), {name: os.environ[name] for name in PASSED if name in os.environ}, {}, {})


@contextmanager
def local(repo: Repo, jobs: int) -> Iterator[Engine]:
    """Yield worker processes that work in the repository itself; no port but on loopback, and that with TLS."""
    quiet = {f"distributed.{key}": value for key, value in QUIET.items()}
    with (
        dask.config.set(quiet),
        LocalCluster(
            n_workers=jobs, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0,
            security=Security.temporary(), silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield Engine(client, here(repo), jobs)


def certificates(folder: Path) -> Security:
    """Return the security of the certificates in `folder`. Raises InputError where one is not there."""
    files = {key: folder / name for key, name in FILES.items()}
    for path in files.values():
        if not path.is_file():
            raise InputError(f"{path}: not found; make certificates, and copy them to each machine (docs/cluster.md)")
    return Security(require_encryption=True, **{key: str(path) for key, path in files.items()})


@contextmanager
def at(address: str, repo: Repo, mix: bool, secrets: Path) -> Iterator[Engine]:
    """Yield the workers of the Dask scheduler at `address`, which work in folders of their own.

    Raises InputError for an address beyond loopback without TLS unless INSECURE=1 is said, and where none answers.
    """
    try:
        found, port = urlsplit(address), urlsplit(address).port
    except ValueError:
        found, port = urlsplit(""), None
    if found.scheme not in ("tls", "tcp") or not found.hostname or not port:
        raise InputError(f"SCHEDULER={address}: expected tls://machine:port")
    if found.scheme == "tcp":
        guard(address)
    try:
        client = Client(
            address, security=certificates(secrets) if found.scheme == "tls" else None, name=NAME, timeout=20
        )
    except OSError as error:
        raise InputError(f"SCHEDULER={address}: no scheduler answers ({str(error)[:200]})") from None
    with client:
        if found.scheme == "tcp":
            guard(client.sync(client.scheduler.identity, n_workers=0)["address"])  # where it listens
        with elsewhere(client, repo, mix) as engine:
            yield engine


def guard(address: str) -> None:
    """Raise InputError for an address that others can reach, unless INSECURE=1 is said."""
    if urlsplit(address).hostname not in LOOPBACK and os.environ.get("INSECURE") != "1":
        raise InputError(
            f"SCHEDULER={address}: whoever reaches that port could run code as you; use tls:// (docs/cluster.md), or "
            "say INSECURE=1 if the network is yours alone"
        )


@contextmanager
def slurm(settings: Path, repo: Repo, mix: bool) -> Iterator[Engine]:
    """Yield workers that are Slurm's jobs, by the settings of dask-jobqueue's SLURMCluster and `jobs`, their number.

    A job that ends is replaced. Raises InputError for settings that SLURMCluster, or Slurm, does not take.
    """
    from dask_jobqueue.slurm import SLURMCluster

    chosen = config.read_yaml(settings)
    jobs = chosen.pop("jobs", 1) if isinstance(chosen, dict) else 0
    try:
        cluster = SLURMCluster(**{"cores": 1, "processes": 1, "security": Security.temporary()} | chosen)
    except (TypeError, ValueError) as error:
        raise InputError(f"{settings}: {error}") from None
    with cluster:
        submittable(cluster.job_script(), settings)
        with Client(cluster, name=NAME) as client, elsewhere(client, repo, mix) as engine:
            engine.again = partial(cluster.scale, jobs=jobs)
            yield engine


def submittable(job: str, settings: Path) -> None:
    """Raise InputError for a job that Slurm would not take, in its own words: dask-jobqueue would try for ever."""
    try:
        tried = subprocess.run(["sbatch", "--test-only"], input=job, capture_output=True, text=True, timeout=SLURM_WAIT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"sbatch: no answer ({error}); say this on a machine whose Slurm works") from None
    if tried.returncode:
        raise InputError(f"{settings}: Slurm does not take such a job: {' '.join(tried.stderr.split())[-300:]}")


@contextmanager
def elsewhere(client: Client, repo: Repo, mix: bool) -> Iterator[Engine]:
    """Yield the engine of workers in folders of their own. Raises InputError where they have another head."""
    for library in ("distributed", "tornado", "asyncio"):  # a lost connection is told in a line of ours
        logging.getLogger(library).setLevel(logging.CRITICAL)
    other = client.run_on_scheduler(ByValue(joining.claim), client=client.id)
    if other:
        raise InputError(f"{client.scheduler.address}: another make repro is at work there ({other}); wait for its end")
    root, archive, name = Path(repo.root_dir), sources.packed(repo), repo.config["core"].get("remote", "")
    cache = Path(repo.cache.local.path).resolve().parents[1]
    core = {"no_scm": True, "analytics": False, "check_update": False} | ({"remote": name} if name else {})
    settings = {
        "core": core,
        "cache": {"dir": str(cache)} | {k: v for k, v in repo.config["cache"].items() if k == "type"},
    }
    if name:
        settings["remote"] = {name: dict(repo.config["remote"][name])}
    told = archive + repr((str(root), settings)).encode()
    run = here(repo)._replace(
        key=f"sources-{sha256(told).hexdigest()[:16]}", apart=True, remote=bool(name), config=settings,
        versions=joining.versions(sources.pinned(root / "requirements.txt")),
    )  # fmt: skip
    token = cache / run.key
    cache.mkdir(parents=True, exist_ok=True)
    token.touch()
    try:
        yield Engine(client, run, sources=archive, mix=mix)
    finally:
        token.unlink(missing_ok=True)
