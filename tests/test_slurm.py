"""Stages as jobs of Slurm, on this machine: a job that is killed is replaced, and the lock is that of a serial run."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.test_cluster import begun, popen
from tests.test_parallel import empty, project, repro, serial, wait_for

__all__ = ["empty", "project", "serial"]
MISSING = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING) or os.getuid() != 0, reason=f"asks root for Slurm here; missing: {MISSING}"),
]
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={port}
SlurmdPort={other}
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[None]:
    """Slurm's daemons on loopback, of one node with two cores."""
    folder = Path("/tmp") / f"slurm-{os.getpid()}"  # a socket's path must be short
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    port, other = free_ports(2)
    (folder / "slurm.conf").write_text(CONFIG.format(host=socket.gethostname(), folder=folder, port=port, other=other))
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/key",
              f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log",
              f"--seed-file={folder}/munge.seed"]  # fmt: skip
    daemons = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            with (folder / f"{command[0]}.log").open("w") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(1)
        idle = ["sinfo", "--noheader", "--states=idle"]
        wait_for(lambda: bool(subprocess.run(idle, capture_output=True, text=True).stdout.strip()))
        yield
        subprocess.run(["scancel", "--user=root"], check=True)
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(timeout=30)
    shutil.rmtree(folder)


@pytest.fixture
def settings(project) -> Path:
    """Settings for it, and the project with its cache in sight of all."""
    found = {
        "jobs": 2,
        "memory": "500MB",
        "local_directory": str(project / "work"),
        "shared_temp_directory": str(project),
    }
    found |= {"log_directory": str(project / "runs/slurm"), "scheduler_options": {"host": "127.0.0.1"}}
    (project / ".gitignore").write_text("/out\n/runs\n/times\n/work\n")
    (project / "runs/slurm").mkdir(parents=True)
    (project / "slurm.yaml").write_text(yaml.safe_dump(found))
    return project / "slurm.yaml"


def jobs() -> list[str]:
    listed = subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def test_as_jobs_one_of_them_killed_to_the_same_lock(slurm, project, settings, serial, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")
    head = popen(project, "--slurm", str(settings), SLURM_CONF=os.environ["SLURM_CONF"],
                 DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT="1s")  # fmt: skip
    wait_for(lambda: any(project.glob("work/dask-scratch-space/*/sources-*/times/a.begun")))
    before = jobs()
    subprocess.run(["scancel", "--signal=KILL", "--full", before[0]], check=True)
    said = head.communicate(timeout=200)[0]
    assert head.returncode == 0 and (project / "dvc.lock").read_bytes() == serial
    assert len(before) == 2 and begun(said) == {"root", "middle@a", "middle@b", "middle@c", "end", "lone"}
    wait_for(lambda: not jobs())
    assert jobs() == []  # it leaves none behind


def test_wrong_settings_are_one_line(slurm, project, settings):
    more = {"SLURM_CONF": os.environ["SLURM_CONF"]}
    chosen = yaml.safe_load(settings.read_text())
    for wrong, said in (({"memroy": "1GB"}, "slurm.yaml: "), ({"queue": "nowhere"}, "invalid partition")):
        settings.write_text(yaml.safe_dump(chosen | wrong))
        assert said in repro(project, "--slurm", str(settings), rc=1, **more)
    settings.write_text(yaml.safe_dump(chosen))
    assert "sbatch: no answer" in repro(project, "--slurm", str(settings), rc=1, PATH="/nowhere", **more)
