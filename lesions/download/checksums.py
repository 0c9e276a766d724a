"""Record size and sha256 of each file that is downloaded, in data/checksums.json, which later downloads must match.

The file is committed: {source: {"<year>/<file>": {"sha256": "...", "size": bytes}}}.
"""

import fcntl
import os
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


def record(source: str, found: dict[str, Checksum]) -> None:
    """Record those of `found` that have no record yet, keys sorted, under a lock: stages may run side by side."""
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(RECORDS.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        records = read()
        recorded = records.setdefault(source, {})
        if new := {file: found[file] for file in found if file not in recorded}:
            recorded |= new
            write_json(
                RECORDS, {s: {f: records[s][f].model_dump() for f in sorted(records[s])} for s in sorted(records)}
            )
            print(f"{RECORDS}: recorded {len(new)} files of {source}; commit it, it is held to from now")
    finally:
        os.close(folder)


def hold(what: str, found: Checksum, recorded: Checksum | None, remedy: str) -> None:
    """Raise InputError, naming `what` and the `remedy`, if there is a record and `found` differs from it."""
    if recorded not in (None, found):
        raise InputError(
            f"{what}: sha256 {found.sha256} ({found.size} bytes), but {RECORDS} records {recorded.sha256} "
            f"({recorded.size} bytes); {remedy}, or delete the record there if the publisher changed the file"
        )
