"""Keep each source's files once, in .download/<source>/<year>/<file>, after a run too.

data/raw holds links to them, so that another data.source and back transfers and copies nothing.
"""

import hashlib
import re
import shutil
from pathlib import Path

from lesions.core.errors import InputError
from lesions.core.files import is_litter
from lesions.download.config import RAW, STORE


def folder(source: str) -> Path:
    """Return the folder of a source's files: its name; one with odd characters gets _ for them, and a hash behind."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", source)[:60]
    return STORE / (readable if readable == source else f"{readable}-{hashlib.sha1(source.encode()).hexdigest()[:8]}")


def same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def link(kept: Path, target: Path) -> None:
    """Make `target` a link to the file at `kept`: a hard link or, to another disk, a symbolic one.

    On a file system without links, the file itself is moved to `target`; `adopt` brings it back.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if same(target, kept):
        return
    if not kept.is_symlink() and kept.stat().st_nlink == 1:  # else it is, or may be, a user's file too
        kept.chmod(0o444)  # or what is written to the link would change the store
    for make_link in (target.hardlink_to, target.symlink_to):
        try:
            return make_link(kept.resolve())
        except FileExistsError:
            raise InputError(f"{target}: came while the stage ran; run it again") from None
        except OSError:
            continue
    shutil.move(kept, target)


def adopt(path: Path, kept: Path) -> None:
    """Move the file at `path` into the store, without a copy; move a symbolic link itself, not the file behind it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        kept.symlink_to(path.resolve())
        path.unlink()
    else:
        shutil.move(path, kept)


def listed() -> dict[str, Path]:
    """Return {<year>/<file>: its path} for all files in data/raw but operating systems' litter."""
    found = {}
    for path in sorted(RAW.rglob("*")):
        if is_litter(path.relative_to(RAW)) or (path.is_dir() and not path.is_symlink()):
            continue
        if not path.is_file():  # a link to a folder is not looked into: it is the user's
            raise InputError(f"{path}: not a file; put the archive itself there, or a link to it, and run again")
        found[path.relative_to(RAW).as_posix()] = path
    return found


def place(kept: Path, wanted: tuple[str, ...]) -> None:
    """Make data/raw links to the `wanted` files in `kept`. Raises InputError for a file that no source's folder has."""
    for file, path in listed().items():
        if not any(same(path, folder / file) for folder in STORE.glob("*")):
            raise InputError(f"{path}: came while the stage ran; run it again")
        if file not in wanted or not path.samefile(kept / file):
            path.unlink()
    for file in wanted:
        link(kept / file, RAW / file)
