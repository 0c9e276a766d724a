"""Record size and sha256 of each file that is downloaded, in data/checksums.json, which later downloads must match.

The file is committed: {source: {"<year>/<file>": {"sha256": "...", "size": bytes}}}.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lesions.core.config import Section, validated
from lesions.core.errors import InputError
from lesions.core.files import digest, read_json, write_json

RECORDS = Path("data/checksums.json")


class Checksum(Section):
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: int  # bytes


Records = dict[str, dict[str, Checksum]]  # by source and file


def of(path: Path) -> Checksum:
    """Return the record of the file at `path`."""
    return Checksum(sha256=digest(path), size=path.stat().st_size)


def read(path: Path = RECORDS) -> Records:
    """Return all records, by source; none if there is no file yet. Raises InputError for a file of another form."""
    if not path.exists():
        return {}
    try:
        return validated(Records, read_json(path), path)
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}; restore it with git checkout {path}") from None
    except InputError as error:
        raise InputError(f"{error}; restore it with git checkout {path}, or delete this record") from None


@contextmanager
def locked() -> Iterator[Records]:
    """Yield all records under a lock: stages may run side by side."""
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(RECORDS.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield read()
    finally:
        os.close(folder)


def write(records: Records) -> None:
    """Write all records, keys sorted."""
    write_json(RECORDS, {s: {f: records[s][f].model_dump() for f in sorted(records[s])} for s in sorted(records)})


def record(source: str, found: dict[str, Checksum]) -> None:
    """Record those of `found` that have no record yet."""
    with locked() as records:
        recorded = records.setdefault(source, {})
        if new := {file: found[file] for file in found if file not in recorded}:
            recorded |= new
            write(records)
            print(f"{RECORDS}: recorded {len(new)} files of {source}; commit it, it is held to from now")


def forget(source: str, files: Iterable[str]) -> dict[str, Checksum]:
    """Take the records of `files` out; return them."""
    with locked() as records:
        of_source = records.get(source, {})
        gone = {file: of_source.pop(file) for file in files if file in of_source}
        write(records)
    return gone


def hold(what: str, found: Checksum, recorded: Checksum | None, remedy: str) -> None:
    """Raise InputError, naming `what` and the `remedy`, if there is a record and `found` differs from it."""
    if recorded not in (None, found):
        raise InputError(
            f"{what}: sha256 {found.sha256} ({found.size} bytes), but {RECORDS} records {recorded.sha256} "
            f"({recorded.size} bytes); {remedy}"
        )
