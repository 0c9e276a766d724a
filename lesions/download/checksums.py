"""Record size and sha256 of each file that is downloaded, in data/checksums.json, which later downloads must match.

The file is committed: {source: {"<year>/<file>": {"sha256": "...", "size": bytes}}}.
"""

import fcntl
import os
import re
from pathlib import Path

from lesions.core.errors import InputError
from lesions.core.files import digest, read_json, write_json

Checksum = dict[str, str | int]  # sha256, size
Records = dict[str, dict[str, Checksum]]  # by source and file


def of(path: Path) -> Checksum:
    """Return the record of the file at `path`."""
    return {"sha256": digest(path), "size": path.stat().st_size}


def _valid(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"sha256", "size"}
        and isinstance(entry["size"], int)
        and re.fullmatch(r"[0-9a-f]{64}", str(entry["sha256"])) is not None
    )


def read(path: Path) -> Records:
    """Return all records, by source; none if there is no file yet. Raises InputError for a file of another form."""
    path = Path(path)
    if not path.exists():
        return {}
    try:
        records = read_json(path)
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}; restore it with git checkout {path}") from None
    if not isinstance(records, dict) or not all(isinstance(files, dict) for files in records.values()):
        raise InputError(
            f"{path}: expected an object of objects, by source and file; restore it with git checkout {path}"
        )
    for source, files in records.items():
        for file, entry in files.items():
            if not _valid(entry):
                raise InputError(
                    f"{path}: {source}: {file}: expected size and sha256 (64 lower-case hex digits), got {entry!r}; "
                    f"restore it with git checkout {path}, or delete this record"
                )
    return records


def record(path: Path, source: str, found: dict[str, Checksum]) -> None:
    """Add `found` to the records of `source`, keys sorted, under a lock: stages may run side by side."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        records = read(path)
        records[source] = {**records.get(source, {}), **found}
        write_json(
            path, {s: {f: dict(sorted(records[s][f].items())) for f in sorted(records[s])} for s in sorted(records)}
        )
    finally:
        os.close(folder)
