"""Write files that appear whole or not at all: under a temporary name first, then renamed; read them back."""

import csv
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from tqdm import tqdm

from lesions.core.errors import FULL, InputError

CHUNK = 1 << 20  # bytes read at a time
# What operating systems, disk stations and clouds strew; .dvcignore names the same.
LITTER = re.compile(
    r"\.DS_Store|\._.*|(eh)?Thumbs\.db|desktop\.ini|Icon\r|\.directory|\.localized|@eaDir|\.AppleDouble|\.fseventsd|"
    r"\.Spotlight-V100|\.Trash(es|-\d+)|\.TemporaryItems|\.nfs[0-9a-f]+|\.dropbox.*|__MACOSX|lost\+found",
    re.IGNORECASE,
)


NAMES = dict.fromkeys(("image", "lesion", "label", "archive", "mask"), str)  # columns that may look like numbers


def is_litter(path: PurePath) -> bool:
    """Return whether a relative path is litter, or lies in a folder that is."""
    return any(LITTER.fullmatch(part) for part in path.parts)


def no_room(path: Path, error: OSError) -> Exception:
    """Return what to raise for an `error` in writing `path`: an InputError for a full disk, else the error itself."""
    if error.errno not in FULL:
        return error
    return InputError(f"{path}: not written: {os.strerror(error.errno)}; make room and run again")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` at a clean exit, remove it at an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise no_room(path, error) from None
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder, as `replacing` yields a path; remove an older folder at `path` only at the end."""
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    except OSError as error:
        raise no_room(path, error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def array_of_rows(path: Path, shape: tuple[int, ...]) -> Iterator[Callable[[int, np.ndarray], None]]:
    """Yield put(first, part), which writes uint8 rows into the .npy at `path`, from row `first` on, in any process.

    Rows are written, not mapped, so that memory does not grow; rows that are not put stay 0. A disk without room for
    all rows is an error before the first one.
    """
    with replacing(path) as partial_file:
        with partial_file.open("w+b") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            start = file.tell()
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, start + math.prod(shape))
            else:
                file.truncate(start + math.prod(shape))
        yield partial(put, partial_file, start, shape)


def put(path: Path, start: int, shape: tuple[int, ...], first: int, part: np.ndarray) -> None:
    """Write uint8 rows, from row `first` on, into the array of `shape` that begins at byte `start` of `path`.

    Raises InputError for a full disk, ValueError for rows that do not fit.
    """
    row = math.prod(shape[1:])
    if part.size % row or not 0 <= first <= shape[0] - part.size // row:
        raise ValueError(f"{path}: {part.shape} from row {first} on does not fit into {shape}")
    try:
        with path.open("r+b") as file:
            file.seek(start + first * row)
            file.write(np.ascontiguousarray(part, np.uint8).data)
    except OSError as error:
        raise no_room(path, error) from None


def read_array(path: Path, rows: int | None = None) -> np.memmap:
    """Return the .npy file at `path` as a read-only memmap; nothing is unpickled.

    Raises InputError for anything else, and if it has not `rows` rows (the number of its table's) where that is given.
    """
    remedy = "run the stage that writes it (dvc repro)"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {remedy}") from None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: not a .npy array ({error}); {remedy}") from None
    if not array.flags.c_contiguous:
        raise InputError(f"{path}: an array in another order than C; {remedy}")
    if rows is not None and len(array) != rows:
        raise InputError(f"{path}: {len(array)} images for {rows} rows of the table; {remedy}")
    return array


def rows(array: np.memmap, start: int, stop: int) -> np.ndarray:
    """Return array[start:stop], read, not mapped: so memory does not grow while a stage goes through a whole array."""
    stop, each = min(stop, len(array)), math.prod(array.shape[1:])
    offset = array.offset + start * each * array.itemsize
    return np.fromfile(str(array.filename), array.dtype, (stop - start) * each, offset=offset).reshape(
        -1, *array.shape[1:]
    )


def read_csv(path: Path, columns: Iterable[str], stage: str) -> pd.DataFrame:
    """Return the CSV that `stage` wrote to `path`; it must have `columns`. Raises InputError for anything else."""
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=NAMES)
        with Path(path).open(newline="", encoding="utf-8") as file:
            widths = {len(fields) for fields in csv.reader(file) if fields}
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run python -m {stage}") from None
    except (ValueError, OSError, csv.Error) as error:  # pandas' own are ValueErrors
        raise InputError(f"{path}: not a CSV: {error}; run python -m {stage}") from None
    for column in columns:
        if column not in table:
            raise InputError(f"{path}: no column {column}; run python -m {stage}")
    if len(widths) > 1:  # pandas would fill or shift them
        raise InputError(f"{path}: lines of {' and '.join(map(str, sorted(widths)))} fields; run python -m {stage}")
    return table


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hex digest of the file at `path`."""
    total, found = path.stat().st_size, hashlib.new(algorithm)
    with (
        path.open("rb") as file,
        tqdm(desc=f"{algorithm} {path.name}", total=total, unit="B", unit_scale=True, leave=False, delay=2) as bar,
    ):
        while chunk := file.read(CHUNK):
            found.update(chunk)
            bar.update(len(chunk))
    return found.hexdigest()


def write_json(path: Path, content: dict) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write floats with six digits after the point: enough for probabilities, and the same bytes on every run."""
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.6f", lineterminator="\n")


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
