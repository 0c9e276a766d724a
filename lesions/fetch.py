"""One file from the first place that has it: resumed where it broke off, retried, whole or not there.

What is under way lies in .download/<sha1 of the source>/, because DVC deletes a stage's outputs before a rerun:
`<file>.part` grows there, `<file>.json` says what the server called it, and the part becomes `<file>` when complete.
"""

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests
from tqdm import tqdm

from lesions.checksums import CHUNK, digest
from lesions.errors import InputError
from lesions.files import read_json, write_json

STORE = Path(".download")
TRIES = 5  # in a row without a new byte; after them, the next place
BLOCK = 1 << 16  # bytes a read; what a lost connection loses is less than one
TIMEOUT = (10, 60)  # seconds: to connect, between two reads
RETRIED = (408, 425, 429)  # besides 5xx; any other refusal is final


class _AbsentError(Exception):
    """This place does not have the file, and asking again will not help."""


class _BrokenError(Exception):
    """This time it did not work."""


def is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def store(source: str) -> Path:
    """The folder where files of `source` wait until all of them are there."""
    return STORE / hashlib.sha1(source.encode()).hexdigest()


def clear(source: str) -> None:
    shutil.rmtree(store(source), ignore_errors=True)
    if STORE.exists() and not any(STORE.iterdir()):
        STORE.rmdir()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_note(path: Path) -> dict:
    try:
        return read_json(_note(path))
    except (FileNotFoundError, ValueError):
        return {}


def discard(path: Path) -> None:
    """Forget the file, whole or partial."""
    for each in (path, _part(path), _note(path)):
        each.unlink(missing_ok=True)


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(f"{folder}: {size / 1e9:.1f} GB needed and {free / 1e9:.1f} GB free; make room and run again")


def _copy(source: Path, target: Path) -> None:
    try:
        file = source.open("rb")
    except OSError as error:
        raise _AbsentError(error.strerror) from None
    total = source.stat().st_size
    _require_space(target.parent, total)
    with (
        file,
        target.open("wb") as copy,
        tqdm(desc=source.name, total=total, unit="B", unit_scale=True) as bar,
    ):
        while chunk := file.read(CHUNK):
            bar.update(copy.write(chunk))


def _identity(url: str, response: requests.Response) -> dict:
    """What tells this version of the file from another: a strong ETag, the date, the size."""
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
    """Whether a 206 is the rest of the very file of which `start` bytes are here."""
    first = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    same = all(now[key] in (None, known.get(key)) for key in ("etag", "modified", "size"))
    return first is not None and int(first[1]) == start and same


def _request(url: str, path: Path) -> None:
    """One GET into the part, from where the last one stopped if the server still has the same file."""
    part, known = _part(path), _read_note(path)
    validator = known.get("etag") or known.get("modified")
    start = part.stat().st_size if part.exists() and validator and known.get("url") == url else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
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
        with (
            part.open("ab") as file,
            tqdm(desc=path.name, total=total, initial=start, unit="B", unit_scale=True) as bar,
        ):
            for chunk in response.iter_content(BLOCK):
                bar.update(file.write(chunk))
    size = part.stat().st_size
    if total is not None and size > total:
        discard(path)
    if total is not None and size != total:
        raise _BrokenError(f"{size} of {total} bytes came")


def _download(url: str, path: Path, sleep: Callable[[float], None]) -> None:
    """Ask until it is all there; tries that bring nothing new are counted, with waits of 1, 2, 4 and 8 s."""
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


def fetch(places: Sequence[str], path: Path, sleep: Callable[[float], None] = time.sleep) -> str:
    """Bring the file to `path` from the first of `places`, URLs or local paths, that has it; return its sha256.

    A whole download that an interrupted run left at `path` is taken if it is still what that run saw.
    Raises InputError naming every place and what was wrong there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    known, reasons = _read_note(path), []
    if path.exists() and known.get("url") in places and digest(path) == known.get("sha256"):
        return known["sha256"]
    path.unlink(missing_ok=True)
    for place in sorted(places, key=lambda p: p != known.get("url")):  # first the one that a part came from
        try:
            if is_url(place):
                _download(place, path, sleep)
            else:
                _copy(Path(place), _part(path))  # no link: DVC makes its files read-only, and this is the user's
        except _AbsentError as error:
            reasons.append(f"{place}: {error}")
            continue
        sha256 = digest(_part(path))
        write_json(_note(path), {**_read_note(path), "sha256": sha256})
        _part(path).replace(path)
        return sha256
    raise InputError(f"{'; '.join(reasons)}; check the address and the network and run again: what came is kept")


def deliver(path: Path, target: Path) -> None:
    """Put a fetched file in its place without a second copy; it stays in the store too, until `clear`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno == errno.EXDEV:
            _copy(path, target)  # another disk
        else:
            path.replace(target)  # a file system without links
