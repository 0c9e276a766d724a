"""The download and weights stages against a real server on 127.0.0.1 whose faults are chosen by the test."""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests

from lesions import archive, checkpoints, checksums, fetch, weights
from lesions.errors import InputError
from lesions.isic import (
    DUPLICATES_2020,
    FILES,
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
)
from lesions.params import Data, Sample
from stages import download
from stages import weights as weights_stage

ROOT = Path(__file__).parents[1]
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
def workspace(tmp_path, monkeypatch) -> Path:
    """A working directory of its own, no proxy, no waiting."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


OUT, RECORDS = Path("data/raw"), Path("data/checksums.json")


def run_stage(source: str, waits: list | None = None, isic2020: bool = False) -> None:
    data = Data(source=source, isic2020=isic2020, sample=Sample(seed=0, images=640, pairs=160))
    download.download(data, OUT, RECORDS, sleep=(waits if waits is not None else []).append)


def there() -> dict[str, bytes]:
    return {path.relative_to(OUT).as_posix(): path.read_bytes() for path in OUT.rglob("*") if path.is_file()}


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
    assert "recorded 9 of 9" in capsys.readouterr().out
    assert not Path(".download").exists()
    assert all(path.stat().st_nlink == 1 for path in OUT.rglob("*.zip"))
    run_stage(server.url)  # again, held to the records
    assert there() == official()
    assert "recorded" not in capsys.readouterr().out


def test_the_files_of_2020_come_where_they_are_asked_for(serve):
    server = serve(official() | of_2020())
    run_stage(server.url)
    assert there() == official() and len(json.loads(RECORDS.read_text())[server.url]) == 9
    run_stage(server.url, isic2020=True)
    assert there() == official() | of_2020()
    recorded = json.loads(RECORDS.read_text())[server.url]
    assert set(recorded) == {*FILES, *FILES_2020}
    server.files[DUPLICATES_2020] += b"ISIC_1000000,ISIC_1000001\n"
    with pytest.raises(InputError, match=rf"{DUPLICATES_2020}: sha256"):
        run_stage(server.url, isic2020=True)


def test_a_folder_without_2020_says_how_to_do_without(tmp_path):
    source = lay_out(tmp_path / "isic", official())
    with pytest.raises(InputError, match=rf"{source / IMAGES_2020}: not found; .*set data.isic2020 to false"):
        run_stage(str(source), isic2020=True)
    run_stage(str(source))
    assert there() == official()


@pytest.mark.parametrize("folder", ["train", "ISIC_2020_Training_JPEG"])
def test_the_archive_of_2020_has_either_folder(folder):
    lay_out(Path(), of_2020(folder))
    assert archive.members(Path(IMAGES_2020), (".jpg",)) == {"ISIC_1000000": f"{folder}/ISIC_1000000.jpg"}


def test_the_official_bases_are_tried_in_order(serve, monkeypatch):
    old = serve(official())
    new = serve({file: content for file, content in official().items() if file.startswith("2019")})
    new.status[TRUTH_2019] = 403  # how S3 says that there is no such file
    monkeypatch.setattr("lesions.source.OFFICIAL", (new.url, old.url))
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


def test_a_store_on_another_disk_is_copied(serve, monkeypatch):
    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    run_stage(serve(official()).url)
    assert there() == official()
    assert not Path(".download").exists()


# -- connections that fail -------------------------------------------------------------------------------------------


def test_a_cut_connection_is_resumed_with_only_the_rest(serve):
    server, waits = serve(official()), []
    server.cuts[IMAGES_2019] = [200_000, 100_000]
    run_stage(server.url, waits)
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

    data = Data(source=server.url, isic2020=False, sample=Sample(seed=0, images=640, pairs=160))
    with pytest.raises(KeyboardInterrupt):
        download.download(data, OUT, RECORDS, sleep=interrupt)
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
    assert fetch.fetch([url], run_once) == hashlib.sha256(content).hexdigest()
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


def test_a_server_error_is_retried_with_growing_waits(serve):
    server, waits = serve(official()), []
    server.status[TRUTH_2019] = 503
    with pytest.raises(InputError, match=rf"{TRUTH_2019}: HTTP 503, 5 times; check .* run again"):
        run_stage(server.url, waits)
    assert waits == [1, 2, 4, 8]
    assert len(server.log) == 5
    assert_nothing_out()


def test_a_connection_always_cut_at_the_same_byte_ends(serve):
    server, waits = serve(official()), []
    server.ranges, server.cuts[IMAGES_2019] = False, [100_000] * 99
    with pytest.raises(InputError, match="5 times"):
        run_stage(server.url, waits)
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
    shutil.rmtree(OUT)
    server.files.update(official(seed=1))
    hashes = [hashlib.sha256(official(seed)[IMAGES_2019]).hexdigest() for seed in (1, 0)]
    with pytest.raises(InputError, match=rf"{IMAGES_2019}.*{hashes[0]}.*{hashes[1]}.*delete the record"):
        run_stage(server.url)
    assert_nothing_out()
    assert RECORDS.read_bytes() == before
    records = json.loads(before)
    del records[server.url][IMAGES_2019]
    RECORDS.write_text(json.dumps(records))
    run_stage(server.url)
    assert there() == official(seed=1)
    assert json.loads(RECORDS.read_text())[server.url][IMAGES_2019]["sha256"] == hashes[0]


def test_a_page_instead_of_a_table_is_refused(serve):
    for file in (METADATA_2019, TRUTH_2017["validation"], TRUTH_2020, DUPLICATES_2020):
        with pytest.raises(InputError, match=rf"{file}: expected a table whose first column is one of image, image_id"):
            run_stage(serve({**official(), **of_2020(), file: b"<html>Please log in</html>"}).url, isic2020=True)


def test_the_published_hashes_of_the_tables_are_recorded():
    records = checksums.read(ROOT / "data" / "checksums.json")["isic"]
    assert records[TRUTH_2019]["size"] == 1_291_479 and records[METADATA_2019]["size"] == 1_214_351


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
        archive.open_archive(crafted(name))


def test_a_link_is_refused():
    def link(member):
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(InputError, match="is a link"):
        archive.open_archive(crafted(f"{FOLDER}/x.jpg", link))


def test_an_encrypted_member_is_refused():
    path = crafted(f"{FOLDER}/x.jpg")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag in the central directory
    path.write_bytes(content)
    with pytest.raises(InputError, match="is encrypted"):
        archive.open_archive(path)


def test_another_top_folder_is_refused():
    with pytest.raises(InputError, match=f"not in the folder {FOLDER}/"):
        archive.open_archive(crafted("elsewhere/x.jpg"))
    with pytest.raises(InputError, match=f"not in the folder {FOLDER}/, where"):
        archive.open_archive(crafted("train/x.jpg"))  # which is 2020's
    archive.open_archive(crafted("LICENSE.txt")).close()
    lay_out(Path(), of_2020("elsewhere"))
    with pytest.raises(InputError, match="not in the folder ISIC_2020_Training_JPEG/ or train/, where"):
        archive.open_archive(Path(IMAGES_2020))


def test_a_bad_member_stops_the_download(serve):
    bad = crafted(f"{FOLDER}/../x.jpg").read_bytes()
    with pytest.raises(InputError, match="leaves its folder"):
        run_stage(serve({**official(), IMAGES_2018: bad}).url)
    assert_nothing_out()


def test_members_are_images_by_name():
    names = ["ISIC_2.JPG", "ISIC_1.jpg", "ISIC_1_superpixels.png", "ISIC_1.txt"]
    lay_out(Path(), {f"{FOLDER}.zip": pack(f"{FOLDER}.zip", dict.fromkeys(names, b"x"))})
    found = archive.members(Path(f"{FOLDER}.zip"), (".jpg", ".jpeg", ".png"))
    assert list(found.items()) == [("ISIC_1", f"{FOLDER}/ISIC_1.jpg"), ("ISIC_2", f"{FOLDER}/ISIC_2.JPG")]


def test_members_of_one_name_or_none_are_refused():
    lay_out(Path(), {f"{FOLDER}.zip": pack(f"{FOLDER}.zip", {"a.jpg": b"x", "more/a.png": b"x"})})
    with pytest.raises(InputError, match="have one name"):
        archive.members(Path(f"{FOLDER}.zip"), (".jpg", ".png"))
    with pytest.raises(InputError, match=r"no \.tif file"):
        archive.members(Path(f"{FOLDER}.zip"), (".tif",))


@pytest.mark.parametrize("kept", [0, 1, 21, 22, 100, -1, -22, -100])
def test_a_cut_archive_is_named(kept):
    content = official()[IMAGES_2018]
    Path(f"{FOLDER}.zip").write_bytes(content[:kept])
    with pytest.raises(InputError, match=rf"{FOLDER}\.zip: not a whole zip archive .*; delete it and download"):
        archive.verify(Path(f"{FOLDER}.zip"))


def test_members_of_nested_folders_are_found_by_their_names():
    lay_out(Path(), {f"{FOLDER}.zip": pack(f"{FOLDER}.zip", {"a.jpg": b"x", "more/and/more/b.jpg": b"x"})})
    found = archive.members(Path(f"{FOLDER}.zip"), (".jpg",))
    assert found == {"a": f"{FOLDER}/a.jpg", "b": f"{FOLDER}/more/and/more/b.jpg"}


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_unusual_packing_is_refused(method):
    def repacked(member):
        member.compress_type = method

    with pytest.raises(InputError, match=rf"is packed by method {method}; expected stored or deflated"):
        archive.open_archive(crafted(f"{FOLDER}/x.jpg", repacked))


def test_a_bomb_is_refused_unread():
    path = Path(f"{FOLDER}.zip")
    for members, message in (
        ({"x.jpg": bytes(archive.LARGEST + 1)}, r"member '.*/x\.jpg' has 268 MB, more than any photograph"),
        ({f"{k}.jpg": bytes(1 << 23) for k in range(4)}, rf"bytes unpack to {4 << 23}: a zip bomb"),
    ):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(f"{FOLDER}/{name}", content)
        with pytest.raises(InputError, match=message):
            archive.open_archive(path)


def test_a_member_that_claims_to_be_packed_in_gigabytes_is_refused_unread():
    """Its reader would ask for as much memory at once."""
    path = crafted(f"{FOLDER}/x.jpg")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 20  # the packed size in the central directory
    content[at : at + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"member '.*/x\.jpg' has 3221 MB, more than any photograph"):
        archive.open_archive(path)


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


def test_a_sample_drawn_otherwise_is_told_not_refused(monkeypatch, capsys):
    other = {file: {"sha256": "0" * 64, "size": 1} for file in FILES}
    Path("records.json").write_text(json.dumps({"sample seed=0 images=160 pairs=20": other}))
    data = Data(source="sample", isic2020=True, sample=Sample(seed=0, images=160, pairs=20))
    download.download(data, Path("data/raw"), Path("records.json"))
    assert "drawn with other bytes" in capsys.readouterr().err
    assert all(Path("data/raw", file).is_file() for file in (*FILES, *FILES_2020))
    recorded = json.loads(Path("records.json").read_text())["sample seed=0 images=160 pairs=20"]
    assert {file for file in recorded if file not in other} == set(FILES_2020)


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


def test_the_table_is_torchvisions():
    from torchvision.models import get_model_weights

    assert {name: get_model_weights(name).IMAGENET1K_V1.url for name in weights.TORCH_WEIGHTS} == weights.TORCH_WEIGHTS


@pytest.fixture
def small(monkeypatch) -> bytes:
    """resnet18 and keras_resnet50 are these bytes, and their names and hashes say so."""
    import torch

    buffer = io.BytesIO()
    torch.save({"fc.weight": torch.arange(100_000, dtype=torch.float32)}, buffer)
    content = buffer.getvalue()
    name = f"https://download.pytorch.org/models/resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setitem(weights.TORCH_WEIGHTS, "resnet18", name)
    monkeypatch.setitem(weights.MD5, "keras_resnet50", hashlib.md5(content).hexdigest())
    return content


@pytest.mark.parametrize("name", ["resnet18", "keras_resnet50"])
def test_weights_come_from_a_mirror_and_are_resumed(serve, small, name):
    file = weights.url(name).rpartition("/")[2]
    server = serve({file: small})
    server.cuts[file] = [200_000]
    weights_stage.download(name, Path("data/weights"), server.url, sleep=lambda seconds: None)
    assert Path("data/weights", name).read_bytes() == small
    assert [answer[1] for answer in server.requests(file)] == [200, 206]
    assert not Path(".download").exists()
    found = {"sha256": hashlib.sha256(small).hexdigest(), "size": len(small)}
    assert checksums.read(Path("data/checksums.json"))["weights"] == {name: found}


def test_weights_are_held_to_their_record(small):
    lay_out(Path("mirror"), {weights.url("resnet18").rpartition("/")[2]: small})
    checksums.record(Path("records.json"), "weights", {"resnet18": {"sha256": "0" * 64, "size": len(small)}})
    with pytest.raises(InputError, match=r"resnet18: sha256 [0-9a-f]+, records\.json has 0000"):
        weights_stage.download("resnet18", Path("data/weights"), "mirror", Path("records.json"))
    assert not Path("data/weights/resnet18").exists()


def test_weights_from_a_folder_load(small):
    lay_out(Path("mirror"), {weights.url("resnet18").rpartition("/")[2]: small})
    weights_stage.download("resnet18", Path("data/weights"), "mirror")
    assert checkpoints.load(Path("data/weights/resnet18"))["fc.weight"].shape == (100_000,)


@pytest.mark.parametrize("name", ["resnet18", "keras_resnet50"])
def test_weights_with_another_hash_are_refused(serve, name):
    server = serve({weights.url(name).rpartition("/")[2]: b"not the weights"})
    with pytest.raises(InputError, match=rf"{name}.*expected [0-9a-f]+; check --mirror"):
        weights_stage.download(name, Path("data/weights"), server.url)
    assert not Path("data/weights", name).exists()
    assert not list(Path(".download").rglob("*.*"))


def test_unknown_weights_list_the_names():
    done = cli("stages.weights", "resnet1800")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: weights: unknown name 'resnet1800'; choose from alexnet, ")


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
