"""Predict the pictures of a folder without a server, into a table; run again, it goes on where it stopped.

python -m serving.predict FOLDER --model NAME --out table.csv
"""

import argparse
import csv
import io
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from serving import NOTICE, models, prepare, settings
from serving.settings import InputError, Settings
from serving.uploads import printable

SUFFIXES = (".jpg", ".jpeg", ".png")
FORMULAS = ("=", "+", "-", "@")  # what a spreadsheet takes for the start of one


def escaped(text: str) -> str:
    """Return text for a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip().startswith(FORMULAS) else text


def columns(model: models.Model) -> list[str]:
    names = [model.names[i] for i in model.order]
    fields = ["name", "prediction", "label", "target", "familiar", "distance", *(f"p_{n}" for n in names)]
    return [escaped(f) for f in [*fields, *(f"balanced_{n}" for n in names), "error", "model", "notice"]]


def cells(name: str, model: str, answer: dict[str, Any] | str, width: int) -> list[Any]:
    """Return a line of the table for what `Model.predict` says of a picture, or for the reason that it says nothing."""
    if isinstance(answer, str):
        return [name, *[""] * (width - 4), escaped(answer), model, NOTICE]
    said, known = answer["prediction"], answer["familiarity"]
    fields = [escaped(said["prediction"]), said["label"], said["target"], known["familiar"], known["distance"]]
    return [name, *fields, *answer["probabilities"].values(), *answer["balanced"].values(), "", model, NOTICE]


def pictures(folder: Path) -> dict[str, Path]:
    """Return the pictures below a folder by the name that the table gives them. Raises InputError."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise InputError(f"{folder}: no picture in it; expected {', '.join(SUFFIXES)}")
    names: dict[str, Path] = {}
    for path in found:
        name = escaped(printable(path.relative_to(folder).as_posix()))
        if name in names:
            raise InputError(f"{path}: the table would call it as {names[name]}; rename one of them")
        names[name] = path
    return names


def begun(out: Path, header: list[str], model: str) -> set[str]:
    """Return the names that a table has already; cut off a line that is not whole. Raises InputError for a table of
    another model."""
    text = out.read_bytes() if out.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    lines = list(csv.reader(io.StringIO(whole.decode("utf-8", "replace"), newline="")))
    if text and not (lines and lines[0] == header and {line[-2] for line in lines[1:]} <= {model}):
        raise InputError(f"{out}: not a table of this model; name another file, or delete it")
    if whole != text:
        os.truncate(out, len(whole))
    return {line[0] for line in lines[1:]}


def read(path: Path, model: models.Model, told: Settings) -> tuple[np.ndarray, list[float]] | str:
    """Return a picture as the model takes it, or the reason that it cannot be."""
    try:
        if path.stat().st_size > told.image_mb * 1e6:
            return f"more than {told.image_mb:g} MB"
        return prepare.read(path.read_bytes(), told.image_mpx, model.size, model.fit)
    except OSError as error:
        return str(error.strerror)


def predicted(paths: list[Path], model: models.Model, told: Settings) -> Iterator[list[dict[str, Any] | str]]:
    """Yield what is said of pictures, batch by batch; while one is predicted the next one is decoded."""
    parts = [paths[i : i + told.batch] for i in range(0, len(paths), told.batch)]
    with ThreadPoolExecutor(told.threads or os.cpu_count()) as pool:

        def load(part: list[Path]) -> list[Future[tuple[np.ndarray, list[float]] | str]]:
            return [pool.submit(read, path, model, told) for path in part]

        coming = load(parts[0])
        for following in [*parts[1:], []]:
            ready = [future.result() for future in coming]
            coming = load(following)
            good = [each for each in ready if not isinstance(each, str)]
            answers = iter(model.predict(np.stack([p for p, _ in good]), [s for _, s in good]) if good else ())
            yield [each if isinstance(each, str) else next(answers) for each in ready]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures, in folders too")
    parser.add_argument("--model", required=True, help="a folder of models/served or released")
    parser.add_argument("--out", type=Path, required=True, help="a CSV file")
    args, told = parser.parse_args(), settings.read()
    model = models.get(args.model, told)
    header = columns(model)
    stamp = escaped(f"{args.model} {model.digest[:12]}")
    there = pictures(args.folder)
    done = begun(args.out, header, stamp)
    left = {name: path for name, path in there.items() if name not in done}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("a", newline="", encoding="utf-8") as file, tqdm(total=len(there), unit="image") as bar:
        table, names = csv.writer(file, lineterminator="\n"), iter(left)
        if not args.out.stat().st_size:
            table.writerow(header)
        bar.update(len(there) - len(left))
        for answers in predicted(list(left.values()), model, told) if left else ():
            for answer in answers:
                table.writerow(cells(next(names), stamp, answer, len(header)))
            file.flush()
            bar.update(len(answers))
    print(f"{args.out}: {len(there)} images. {NOTICE}")


if __name__ == "__main__":
    settings.run(main)
