"""Fetch a file from the first place that has it: resume where it broke off, retry, leave it whole or not at all.

`<file>.part` grows in the store (lesions/download/store.py), `<file>.json` notes the server's address, ETag, date and
size, and the part becomes `<file>` when it is complete.
"""

import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep

import requests
from tqdm import tqdm

from lesions.core.errors import InputError
from lesions.core.files import CHUNK, is_litter, read_json, write_json
from lesions.download import checksums
from lesions.download.checksums import Checksum

TRIES = 5  # in a row without a new byte, before the next place is tried
BLOCK = 1 << 16  # bytes a read; a lost connection loses less than that
TIMEOUT = (10, 60)  # seconds: to connect, between two reads
RETRIED = (408, 425, 429)  # besides 5xx; any other refusal is final


class _AbsentError(Exception):
    """An error of a place that does not have the file: asking again will not help."""


class _BrokenError(Exception):
    """An error that asking again may mend."""


def is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def read_note(path: Path) -> dict:
    """Return the note of the file at `path`, whole or partial; {} if there is none: then the file is none of ours."""
    try:
        return read_json(_note(path))
    except (FileNotFoundError, ValueError):
        return {}


def write_note(path: Path, **what: object) -> None:
    """Add `what` to the note of the file at `path`; with a sha256 there it is one of ours."""
    write_json(_note(path), {**read_note(path), **what})


def discard(path: Path) -> None:
    """Remove the file, whole or partial, and its note."""
    for each in (path, _part(path), _note(path)):
        each.unlink(missing_ok=True)


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(f"{folder}: {size / 1e9:.1f} GB needed and {free / 1e9:.1f} GB free; make room and run again")


def _bar(name: str, total: int | None, done: int = 0) -> tqdm:
    return tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True)


def unpacked(path: Path) -> Path:
    """Return the folder beside the zip `path` that its members lie in once it is unpacked."""
    return path.with_suffix("") if path.suffix == ".zip" else path


def inside(folder: Path) -> list[Path]:
    """Return the files of an unpacked archive, without litter, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not is_litter(path.relative_to(folder)))


def _pack(folder: Path, target: Path) -> None:
    """Write the files of an unpacked archive as one again, stored and dated 1980: the same bytes each time."""
    files = inside(folder)
    total = sum(path.stat().st_size for path in files)
    _require_space(target.parent, total)
    with zipfile.ZipFile(target, "w") as archive, _bar(folder.name, total) as bar:
        for path in files:
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
            archive.writestr(entry, path.read_bytes())
            bar.update(path.stat().st_size)


def _copy(source: Path, target: Path) -> None:
    """Copy a file; if the file system can, `target` shares its bytes until one of the two is changed.

    Where a zip is asked for and it lies there unpacked, it is packed.
    """
    if not source.exists() and unpacked(source).is_dir():
        return _pack(unpacked(source), target)
    try:
        file = source.open("rb")
    except OSError as error:
        raise _AbsentError(error.strerror) from None
    total = source.stat().st_size
    _require_space(target.parent, total)
    with file, target.open("wb") as copy, _bar(source.name, total) as bar:
        with suppress(OSError, AttributeError):  # not between all disks; not on macOS
            while sent := os.copy_file_range(file.fileno(), copy.fileno(), 64 * CHUNK):
                bar.update(sent)
        while chunk := file.read(CHUNK):  # what is left: all or nothing of the file, as a rule
            bar.update(copy.write(chunk))


def _identity(url: str, response: requests.Response) -> dict:
    """Return what tells this version of the file from another: its address, a strong ETag, the date, the size."""
    etag = response.headers.get("ETag", "")
    size = response.headers.get("Content-Length", "")
    if response.status_code in (206, 416):
        size = response.headers.get("Content-Range", "").rpartition("/")[2]
    return {
        "url": url,
        "etag": etag if etag.startswith('"') else None,
        "modified": response.headers.get("Last-Modified"),
        "size": int(size) if size.isdecimal() else None,
    }


def _continues(response: requests.Response, now: dict, known: dict, start: int) -> bool:
    """Return whether a 206 is the rest of the very file of which `start` bytes are here."""
    first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    same = all(now[key] in (None, known.get(key)) for key in ("etag", "modified", "size"))
    return first is not None and int(first[1]) == start and same


def _request(url: str, path: Path) -> None:
    """Write the answer to one GET into the part, from where the last one stopped if the server has the same file."""
    part, known = _part(path), read_note(path)
    validator = known.get("etag") or known.get("modified")
    start = part.stat().st_size if part.exists() and validator and known.get("url") == url else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": str(validator)}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status, now = response.status_code, _identity(url, response)
        if status == 416 and start and now["size"] == start == known["size"]:
            return  # all of it was here already
        if status == 416 or (status == 206 and not _continues(response, now, known, start)):
            discard(path)
            raise _BrokenError("the file changed on the server; starting again")
        if status in RETRIED or status >= 500:
            raise _BrokenError(f"HTTP {status}")
        if status not in (200, 206):
            raise _AbsentError(f"HTTP {status}")
        if status == 200:  # all of it, asked for or not
            start = 0
            part.unlink(missing_ok=True)
            write_json(_note(path), now)
        total = now["size"] or (known["size"] if start else None)
        _require_space(path.parent, (total or 0) - start)
        with part.open("ab") as file, _bar(path.name, total, start) as bar:
            for chunk in response.iter_content(BLOCK):
                bar.update(file.write(chunk))
    size = part.stat().st_size
    if total is not None and size > total:
        discard(path)
    if total is not None and size != total:
        raise _BrokenError(f"{size} of {total} bytes came")


def _download(url: str, path: Path) -> None:
    """Ask until all is there or TRIES in a row brought nothing new, with waits of 1, 2, 4 and 8 s in between."""
    tries, most = 0, 0
    while True:
        try:
            return _request(url, path)
        except _BrokenError as error:
            reason = str(error)
        except requests.Timeout:
            reason = "timed out"
        except ValueError as error:  # requests' own for a malformed URL
            raise _AbsentError(f"not a URL ({error})") from None
        except requests.RequestException as error:
            reason = f"no connection, or lost ({type(error).__name__})"
        size = _part(path).stat().st_size if _part(path).exists() else 0
        tries, most = 1 if size > most else tries + 1, max(size, most)
        if tries == TRIES:
            raise _AbsentError(f"{reason}, {TRIES} times")
        wait = 2.0 ** (tries - 1)
        tqdm.write(f"{url}: {reason}; again in {wait:.0f} s")
        sleep(wait)


def seen(place: str) -> list[int] | None:
    """Return size and time of change of a local file, by which another version of it is known; None for a URL.

    Of an archive that lies there unpacked: the sum of its files' sizes, the last of their times.
    """
    if is_url(place):
        return None
    of = [Path(place)] if Path(place).is_file() else inside(unpacked(Path(place)))
    found = [path.stat() for path in of]
    return [sum(one.st_size for one in found), max(one.st_mtime_ns for one in found)] if found else None


def expected(path: Path, recorded: Checksum | None) -> str | None:
    """Return the sha256 that the file at `path` has by its record or, without one, by its note."""
    return recorded.sha256 if recorded else read_note(path).get("sha256")


def whole(path: Path, recorded: Checksum | None = None) -> Checksum | None:
    """Return the checksum of the file at `path` if it is the expected one, else None."""
    if not path.exists():
        return None
    found = checksums.of(path)
    return found if found.sha256 == expected(path, recorded) else None


def fetch(places: Sequence[str], path: Path) -> Checksum:
    """Bring the file to `path` from the first of `places`, URLs or local paths, that has it; return its checksum.

    Raises InputError naming every place and what was wrong there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    known, reasons = read_note(path), []
    for place in sorted(places, key=lambda p: p != known.get("url")):  # first where a part came from
        try:
            if is_url(place):
                _download(place, path)
            else:
                _copy(Path(place), _part(path))  # a copy: the file is the user's
        except _AbsentError as error:
            reasons.append(f"{place}: {error}")
            continue
        found = checksums.of(_part(path))
        write_note(path, sha256=found.sha256, place=place, seen=seen(place))
        _part(path).replace(path)
        return found
    raise InputError(f"{'; '.join(reasons)}; check the address and the network and run again: what came is kept")
