"""Start servers and workers as processes of their own, with short leases, on SQLite and on PostgreSQL where it is.

make test-serving
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("fastapi") is None or find_spec("onnx") is None:  # make test has another environment
    collect_ignore_glob = ["*"]
else:
    import httpx

    from tests.serving import toy

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


class Processes:
    """Start python -m … with settings; all that is left of them is killed at the end."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.settings, self.started, self.logs = settings, [], folder

    def start(self, *command: str, **settings: str) -> subprocess.Popen:
        told = {f"LESIONS_{key.upper()}": value for key, value in (self.settings | settings).items()}
        with (self.logs / f"{len(self.started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, env=os.environ | told, stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def api(self, *options: str, **settings: str) -> tuple[subprocess.Popen, "httpx.Client"]:
        """Start an API without a worker; return it and a client of it when it answers."""
        port = free_port()
        process = self.start("uvicorn", "serving.app:app", "--no-access-log", "--port", str(port), *options, **settings)
        return process, client(port)

    def kill(self, process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.logs.glob("*.log")))


def client(port: int) -> "httpx.Client":
    found = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    wait(lambda: answers(found))
    return found


def answers(found: "httpx.Client") -> bool:
    try:
        return found.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def wait(what: Callable[[], object], seconds: float = 30) -> float:
    """Wait until `what` is true; return for how long. Fails after `seconds`."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < seconds, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - begun


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models: quick and slow of eight classes, views of eight views, two of two classes."""
    folder = tmp_path_factory.mktemp("served")
    toy.model(folder / "quick")
    toy.model(folder / "slow", size=(512, 512), layers=6, maps=False)
    toy.model(folder / "two", classes=("OTHER", "MEL"), fit="crop", maps=False)
    toy.model(folder / "views", views=8)
    toy.model(folder / "masks", kind="unet")
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a PostgreSQL of our own, on a free port; as root it runs as `postgres` or `nobody`."""
    binaries = next((p for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    initdb = shutil.which("initdb") or (binaries and str(binaries / "initdb"))
    if not initdb:
        pytest.skip("no PostgreSQL here: apt-get install --no-install-recommends postgresql")
    tools = Path(initdb).resolve().parent
    folder, port, prefix = Path(f"/tmp/lesions-postgres-{os.getpid()}"), free_port(), []
    folder.mkdir(mode=0o700)
    if os.getuid() == 0:
        user = next(n for n in ("postgres", "nobody") if shutil.which("id") and not subprocess.call(
            ["id", n], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))  # fmt: skip
        shutil.chown(folder, user)
        prefix = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"]
    data = ["-D", str(folder / "data")]
    quiet = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/tmp"}
    subprocess.run([*prefix, str(tools / "initdb"), *data, "-U", "lesions", "-A", "trust", "-E", "UTF8", "-N"], **quiet)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*prefix, str(tools / "pg_ctl"), *data, "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], **quiet)
    yield f"postgresql+psycopg://lesions@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database, of both kinds in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue/tasks.sqlite"
    import sqlalchemy

    url = request.getfixturevalue("postgres")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"t{abs(hash(str(tmp_path)))}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return url.replace("/postgres", f"/{name}")


@pytest.fixture
def processes(tmp_path: Path, served: Path, database: str) -> Iterator[Processes]:
    """Return what starts APIs and workers on `database` with leases of a second."""
    settings = {"queue": database, "models": str(served), "lease": "1", "threads": "1"}
    found = Processes(tmp_path, settings)
    yield found
    for process in found.started:
        if process.poll() is None:
            found.kill(process)
