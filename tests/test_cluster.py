"""Stages on workers with folders of their own, by a Dask scheduler on this machine: the lock of a serial run."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
import yaml

from lesions.cluster import joining
from lesions.cluster.head import Head
from lesions.core.errors import InputError
from lesions.tools import certificates
from tests.conftest import hear_sigint
from tests.test_parallel import (
    BAD,
    COMMAND,
    ENVIRONMENT,
    FAST,
    SLOW,
    empty,
    locked,
    project,
    repro,
    serial,
    set_middle,
    times,
    wait_for,
)

__all__ = ["empty", "project", "serial"]
pytestmark = pytest.mark.slow

DASK = [sys.executable, "-m", "distributed.cli.dask_scheduler"], [sys.executable, "-m", "distributed.cli.dask_worker"]


class Cluster:
    """A scheduler and workers, in a folder of their own."""

    def __init__(self, folder: Path, secrets: Path | None = None, host: str = "127.0.0.1", **more: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.processes, self.workers = folder, list[subprocess.Popen](), list[subprocess.Popen]()
        self.tls = [] if secrets is None else [
            *("--tls-ca-file", secrets / "ca.pem", "--tls-cert", secrets / "cert.pem", "--tls-key", secrets / "key.pem")
        ]  # fmt: skip
        self.scheduler = self.start(
            [*DASK[0], "--host", host, "--port", "0", "--no-dashboard", *self.tls], "scheduler", **more
        )
        wait_for(lambda: "Scheduler at:" in self.said("scheduler"))
        [line] = [line for line in self.said("scheduler").splitlines() if "Scheduler at:" in line]
        self.address = line.split("Scheduler at:")[1].strip()

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text() if (self.folder / f"{name}.log").exists() else ""

    def start(self, command: list, name: str, **more: str) -> subprocess.Popen:
        kept = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONPATH"}  # no checkout
        with (self.folder / f"{name}.log").open("w") as log:
            self.processes.append(subprocess.Popen(
                [*map(str, command)], cwd=self.folder, env=kept | more, stdout=log, stderr=log, start_new_session=True
            ))  # fmt: skip
        return self.processes[-1]

    def join(self, name: str, *options: str, within: tuple[str, ...] = (), **more: str) -> None:
        place = self.folder / name
        command = [*within, *DASK[1], self.address, "--nthreads", "1", "--name", name, "--no-dashboard",
                   "--local-directory", place, *self.tls, *options]  # fmt: skip
        self.workers.append(self.start(command, name, **more))

    def end(self) -> None:
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    """A scheduler and two workers, each with a cache of its own."""
    made = Cluster(tmp_path / "cluster")
    for name in ("m1", "m2"):
        made.join(name)
    yield made
    made.end()


@pytest.fixture
def remote(project, tmp_path) -> Path:
    """The project, with a folder as DVC's remote."""
    (tmp_path / "remote").mkdir()
    add = [sys.executable, "-m", "dvc", "remote", "add", "-q", "-d", "store", tmp_path / "remote"]
    subprocess.run(add, cwd=project, check=True)
    return project


def begun(said: str) -> set[str]:
    """Return the stages that began, of `said`."""
    return {line.split()[1].removesuffix(":") for line in said.splitlines() if ": begun" in line}


def popen(folder: Path, *options: str, **more: str) -> subprocess.Popen:
    environment = ENVIRONMENT | more
    return subprocess.Popen(
        [*COMMAND, *options], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=hear_sigint,
    )  # fmt: skip


def test_without_a_shared_file_system_to_the_same_lock(remote, cluster, serial):
    said = repro(remote, "--scheduler", cluster.address)
    assert begun(said) == {"root", "middle@a", "middle@b", "middle@c", "end", "lone"} and " on " in said
    assert (remote / "dvc.lock").read_bytes() == serial
    assert {path.name for path in (remote / "out").iterdir()} == {"root", "a", "b", "c", "end", "lone"}
    assert not (remote / "times").exists()  # they worked elsewhere
    assert "Running stage 'middle@a'" in (remote / "runs/parallel/middle-a.log").read_text()
    assert len((remote / "runs/parallel/machines.csv").read_text().splitlines()) == 7
    assert "6 of 6 stages are up to date" in repro(remote, "--scheduler", cluster.address)
    set_middle(remote, a=FAST, b=SLOW, c=FAST)
    assert begun(repro(remote, "--scheduler", cluster.address)) == {"middle@a", "end"}
    assert (remote / "out/a").read_text().splitlines()[-1] == f"a {FAST}"
    set_middle(remote, a=SLOW, b=SLOW, c=FAST)
    assert "is cached - skipping run" in relogged(remote, cluster, "middle-a")
    assert (remote / "out/a").read_text().splitlines()[-1] == f"a {SLOW}"
    assert (remote / "dvc.lock").read_bytes() == serial


def relogged(folder: Path, cluster: Cluster, name: str) -> str:
    repro(folder, "--scheduler", cluster.address)
    return (folder / f"runs/parallel/{name}.log").read_text()


@pytest.mark.parametrize("way", ["remote", "shared"])
def test_from_the_lock_of_others_with_no_file_of_theirs(request, cluster, serial, way):
    """As in a fresh clone; with a file that a stage which was cut off has left."""
    folder = request.getfixturevalue("remote" if way == "remote" else "project")
    (folder / "dvc.lock").write_bytes(serial)
    set_middle(folder, a=FAST, b=FAST, c=FAST)
    (folder / "out").mkdir()
    (folder / "out/a").write_text("half")
    repro(folder, "--scheduler", cluster.address)
    assert (folder / "out/a").read_text().splitlines()[-1] == f"a {FAST}"
    assert "6 of 6 stages are up to date" in repro(folder, "--scheduler", cluster.address)


def test_through_s3_to_the_same_lock(project, serial, tmp_path, monkeypatch):
    """The remote is a bucket of moto's."""
    pytest.importorskip("dvc_s3", reason="pip install -r requirements-s3.txt")
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    for name, value in zip(keys, ("key", "secret", "us-east-1"), strict=True):
        monkeypatch.setitem(ENVIRONMENT, name, value)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    url, made = f"http://127.0.0.1:{port}", Cluster(tmp_path / "cluster")
    try:
        made.start([sys.executable, "-m", "moto.server", "-p", port], "moto")
        wait_for(lambda: "Running on" in made.said("moto"))
        requests.put(f"{url}/lesions", timeout=10).raise_for_status()
        for command in (["add", "-d", "store", "s3://lesions/store"], ["modify", "store", "endpointurl", url]):
            subprocess.run([sys.executable, "-m", "dvc", "remote", *command], cwd=project, check=True)
        made.join("m1")
        repro(project, "--scheduler", made.address)
        kept = requests.get(f"{url}/lesions", timeout=10).text
    finally:
        made.end()
    assert (project / "dvc.lock").read_bytes() == serial
    assert "<Key>store/runs/" in kept and "<Key>store/files/md5/" in kept and not (project / "times").exists()


def test_with_a_shared_cache_to_the_same_lock(project, cluster, serial):
    repro(project, "--scheduler", cluster.address)
    assert (project / "dvc.lock").read_bytes() == serial and (project / "out/end").exists()
    assert not list((project / ".dvc/cache").glob("sources-*"))


@pytest.mark.parametrize("nanny", [False, True])
def test_the_stage_of_a_killed_worker_goes_to_another(remote, cluster, serial, tmp_path, nanny):
    """Killed alone, its nanny starts it anew; killed with its nanny, the other worker takes its stage."""
    head = popen(remote, "--scheduler", cluster.address)
    wait_for(lambda: any(cluster.folder.glob("m1/dask-scratch-space/worker-*/sources-*/times/[ab].begun")))
    nannied = psutil.Process(cluster.workers[0].pid)
    if nanny:
        os.killpg(nannied.pid, signal.SIGKILL)
    else:
        max(nannied.children(), key=lambda process: process.memory_info().rss).kill()
    said = head.communicate(timeout=120)[0]
    assert head.returncode == 0 and (remote / "dvc.lock").read_bytes() == serial
    assert said.count("middle@a: begun") + said.count("middle@b: begun") == 3


def test_a_head_that_ends_goes_on_with_what_its_workers_did_meanwhile(remote, cluster, tmp_path):
    """The first by Ctrl-C, the second killed."""
    count, go_on = tmp_path / "count", tmp_path / "go_on"
    set_middle(remote, a=f"echo begun >> {count}; until [ -e {go_on} ]; do sleep 0.1; done", b=FAST, c=FAST)
    heads = [popen(remote, "--scheduler", cluster.address)]
    wait_for(count.exists)
    heads[0].send_signal(signal.SIGINT)
    said = heads[0].communicate(timeout=60)[0]
    assert heads[0].returncode == 130 and "Traceback" not in said
    heads.append(popen(remote, "--scheduler", cluster.address))  # takes over what runs
    wait_for(lambda: cluster.said("scheduler").count("Receive client connection: Client-lesions") == 2)
    assert "another make repro is at work there" in repro(copy_of(remote), "--scheduler", cluster.address, rc=1)
    heads[1].kill()
    go_on.touch()  # it ends while there is no head
    wait_for(lambda: any((tmp_path / "remote").rglob("runs/*/*/*")) and ended("a", cluster))
    repro(remote, "--scheduler", cluster.address)
    assert count.read_text() == "begun\n"
    assert len(locked(remote)) == 6


def ended(name: str, cluster: Cluster) -> bool:
    return any(cluster.folder.glob(f"m*/dask-scratch-space/worker-*/sources-*/times/{name}.ended"))


def copy_of(folder: Path) -> Path:
    return Path(shutil.copytree(folder, folder.with_name("other"), symlinks=True, ignore=lambda *_: {"times", "runs"}))


def test_a_lost_scheduler_is_told_and_another_one_goes_on(remote, cluster, serial, tmp_path):
    head = popen(remote, "--scheduler", cluster.address)
    wait_for(lambda: (remote / "runs/parallel/middle-a.log").exists())
    cluster.end()
    said = head.communicate(timeout=60)[0]
    assert head.returncode == 1 and said.splitlines()[-1].startswith("error: ")
    other = Cluster(tmp_path / "again")
    try:
        other.join("m3")
        repro(remote, "--scheduler", other.address)
    finally:
        other.end()
    assert (remote / "dvc.lock").read_bytes() == serial


def test_a_failure_lets_the_others_finish(remote, cluster):
    set_middle(remote, a=BAD, b=FAST, c=FAST)
    said = repro(remote, "--scheduler", cluster.address, "--keep-going", rc=1)
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "middle@a: failed: " in line and "exited with 1" in line and "(runs/parallel/middle-a.log)" in line
    assert sorted(locked(remote)) == ["lone", "middle@b", "middle@c", "root"]


@pytest.mark.parametrize("seed", [0, 1])
def test_whatever_is_killed_at_any_moment_nothing_is_lost(remote, cluster, serial, seed):
    draw = random.Random(seed)
    head = popen(remote, "--scheduler", cluster.address)
    for number in range(5):
        time.sleep(draw.uniform(0.2, 4))
        part, place = draw.choice(["head", "worker", "nanny"]), draw.randrange(2)
        if part == "head":
            head.kill()
            head.communicate()
            head = popen(remote, "--scheduler", cluster.address)
        elif part == "nanny":
            os.killpg(cluster.workers.pop(place).pid, signal.SIGKILL)
            cluster.join(f"again{number}")
        else:
            for process in psutil.Process(cluster.workers[place].pid).children():
                process.kill()
    cluster.join("last")  # a nanny whose worker is killed as it starts gives up
    head.communicate(timeout=120)
    repro(remote, "--scheduler", cluster.address)  # what the last one could not, killed or not
    assert (remote / "dvc.lock").read_bytes() == serial
    assert {path.name for path in (remote / "out").iterdir()} == {"root", "a", "b", "c", "end", "lone"}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of a megabyte, at the place of a worker's folder."""
    place = tmp_path / "cluster/m1"
    place.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_of_a_worker_is_told_and_with_room_it_goes_on(small_disk, remote, serial, tmp_path):
    lone = Cluster(tmp_path / "cluster")
    try:
        lone.join("m1")
        (small_disk / "else").write_bytes(bytes(2**20 - 2**16))
        said = repro(remote, "--scheduler", lone.address, rc=1)
        assert "no space left on the disk of" in said.splitlines()[-1] and said.splitlines()[-1].startswith("error: ")
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        repro(remote, "--scheduler", lone.address)
    finally:
        lone.end()
    assert (remote / "dvc.lock").read_bytes() == serial


def test_what_a_stage_needs_and_what_must_stay(remote, cluster):
    """`meta` sends a stage to the worker that has it; what DVC keeps no copy of is made and read at home."""
    cluster.join("m3", "--resources", "gpu=1 memory=1")
    wait_for(lambda: cluster.said("scheduler").count("Register worker") >= 3)
    described = yaml.safe_load((remote / "dvc.yaml").read_text())
    described["stages"]["middle"]["do"]["meta"] = {"gpu": 1, "memory": 16}
    described["stages"]["lone"]["outs"] = [{"out/lone": {"cache": False}}]
    (remote / "dvc.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    set_middle(remote, a=FAST, b=FAST, c=FAST)
    head = popen(remote, "--scheduler", cluster.address)
    wait_for(lambda: len(list((remote / "runs/parallel").glob("*.log"))) == 2)
    cluster.join("m4", "--resources", "gpu=1 memory=16")
    said = head.communicate(timeout=120)[0]
    assert head.returncode == 0 and said.count('wait for a worker with --resources "gpu=1 memory=16"') == 1
    ran = {path.name for path in cluster.folder.glob("m4/dask-scratch-space/worker-*/sources-*/times/*.ended")}
    assert {"a.ended", "b.ended", "c.ended"} <= ran
    assert set(times(remote)) == {"lone"}


def test_a_worker_that_does_not_fit_is_refused_by_name(remote, cluster, tmp_path):
    (tmp_path / "other/tqdm-0.0.1.dist-info").mkdir(parents=True)
    (tmp_path / "other/tqdm-0.0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: tqdm\nVersion: 0.0.1\n")
    (remote / "requirements.txt").write_text("tqdm==1.0 \\\n    --hash=sha256:00\n")
    cluster.join("old", PYTHONPATH=str(tmp_path / "other"))
    cluster.join("wide", "--nthreads", "2")
    wait_for(lambda: cluster.said("scheduler").count("Register worker") >= 4)
    said = repro(remote, "--scheduler", cluster.address)
    assert "refused: old (tcp://" in said and "has tqdm 0.0.1, expected" in said
    assert "refused: wide (tcp://" in said and "has 2 threads" in said
    assert not list(cluster.folder.glob("old/dask-scratch-space/worker-*/sources-*"))


def test_who_may_not_join():
    fits = joining.Run("key", "/", {}, {"cache": {"dir": "/nowhere"}}, joining.versions([]))
    assert "does not see DVC's cache /nowhere" in joining.refusal(fits)
    fits = fits._replace(remote=True)
    assert joining.refusal(fits) == "" == joining.refusal(fits._replace(machine=joining.machine()))
    assert "another model of machine" in joining.refusal(fits._replace(machine="PDP-11"))
    assert "has Python 3" in joining.refusal(fits._replace(versions={"Python": "2.7"}))


def test_a_head_of_another_model_than_its_workers_is_told_once(capsys):
    head = Head.__new__(Head)
    head.away = SimpleNamespace(workers={}, run=SimpleNamespace(machine="PDP-11"), look=list)
    head.told, head.looked = set(), 0.0
    head.look()
    head.looked = 0.0
    head.look()
    assert capsys.readouterr().out.count("another model") == 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://10.0.0.1:8786", "INSECURE=1"),
        ("head", "expected tls://machine:port"),
        ("tls://head:87860", "expected tls://machine:port"),
        ("tcp://127.0.0.1:1", "no scheduler answers"),
        ("tls://127.0.0.1:1", "make certificates"),
    ],
)
def test_a_wrong_address_is_one_line(project, address, said):
    assert said in repro(project, "--scheduler", address, rc=1)


def test_with_certificates_and_not_without(remote, serial, tmp_path):
    secrets = tmp_path / "secrets"
    certificates.make(secrets)
    assert (secrets / "key.pem").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="there already"):
        certificates.make(secrets)
    made = Cluster(tmp_path / "cluster", secrets)
    try:
        assert made.address.startswith("tls://")
        made.join("m1")
        assert "no scheduler answers" in repro(remote, "--scheduler", made.address.replace("tls", "tcp"), rc=1)
        repro(remote, "--scheduler", made.address, "--certificates", str(secrets))
    finally:
        made.end()
    assert (remote / "dvc.lock").read_bytes() == serial


HOSTS = {"m1": ("10.213.1.1", "10.213.1.2"), "m2": ("10.213.2.1", "10.213.2.2")}  # worker -> the head's end, its own


@pytest.fixture
def hosts() -> Iterator[None]:
    """Hosts of their own for two workers, each on a cable to the head's."""
    made = []
    try:
        for name, (ours, theirs) in HOSTS.items():
            made.append(f"lesions-{name}")
            inside = ["ip", "netns", "exec", made[-1]]
            for command in (
                ["ip", "netns", "add", made[-1]],
                ["ip", "link", "add", f"les-{name}", "type", "veth", "peer", "name", "eth0", "netns", made[-1]],
                ["ip", "addr", "add", f"{ours}/24", "dev", f"les-{name}"],
                ["ip", "link", "set", f"les-{name}", "up"],
                [*inside, "ip", "addr", "add", f"{theirs}/24", "dev", "eth0"],
                [*inside, "ip", "link", "set", "eth0", "up"],
                [*inside, "ip", "link", "set", "lo", "up"],
                [*inside, "ip", "route", "add", "default", "via", ours],
            ):
                subprocess.run(command, check=True, capture_output=True)
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {error}")
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def inside(name: str) -> tuple[str, ...]:
    return "ip", "netns", "exec", f"lesions-{name}"


def test_a_cable_is_cut_and_mended(remote, hosts, serial, tmp_path):
    """Three hosts, with TLS: the other worker takes the stage."""
    secrets = tmp_path / "secrets"
    short = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "13s"}
    certificates.make(secrets)
    made = Cluster(tmp_path / "cluster", secrets, "10.213.1.1", **short)
    try:
        for name in HOSTS:
            made.join(name, within=inside(name), **short)
        head = popen(remote, "--scheduler", made.address, "--certificates", str(secrets), **short)
        wait_for(lambda: any(made.folder.glob("m1/dask-scratch-space/worker-*/sources-*/times/[ab].begun")))
        subprocess.run(["ip", "link", "set", "les-m1", "down"], check=True)
        said = head.communicate(timeout=110)[0]
        assert head.returncode == 0 and (remote / "dvc.lock").read_bytes() == serial
        assert said.count("middle@a: begun") + said.count("middle@b: begun") == 3
        made.workers[0].wait(timeout=60)  # nobody hears it: it ends, and its stage with it
        subprocess.run(["ip", "link", "set", "les-m1", "up"], check=True)
        made.join("m3", within=inside("m1"), **short)
        wait_for(lambda: made.said("scheduler").count("Register worker") == 3)
        set_middle(remote, a="sleep 2", b="sleep 2", c="sleep 2")
        repro(remote, "--scheduler", made.address, "--certificates", str(secrets))
    finally:
        made.end()
    assert any(made.folder.glob("m3/dask-scratch-space/worker-*/sources-*/times/*.ended"))
