"""Fetch one set of ImageNet weights to data/weights/<name>, held to its publisher's hash and to data/checksums.json.

    python -m stages.weights vgg16

The names are those of lesions/weights.py. --mirror: a URL or folder that has the same file names.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from lesions import checksums, fetch, weights
from lesions.errors import InputError, run


def download(
    name: str,
    out: Path,
    mirror: str | None = None,
    records: Path = Path("data/checksums.json"),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    place = weights.url(name)
    if mirror:
        place = f"{mirror.rstrip('/')}/{place.rpartition('/')[2]}"
    path = fetch.store(place) / place.rpartition("/")[2]
    sha256 = fetch.fetch([place], path, sleep)
    found, recorded = {"sha256": sha256, "size": path.stat().st_size}, checksums.read(records).get("weights", {})
    try:
        weights.verify(name, path, sha256)
        if recorded.get(name, found) != found:
            raise InputError(f"{name}: sha256 {sha256}, {records} has {recorded[name]['sha256']}; check --mirror")
    except InputError:
        fetch.discard(path)
        raise
    fetch.deliver(path, out / name)
    fetch.clear(place)
    if name not in recorded:
        checksums.record(records, "weights", {name: found})
        print(f"{records}: recorded {name}; commit it, it is held to from now")
    print(f"{out / name}: {(out / name).stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help=f"one of {', '.join(weights.NAMES)}")
    parser.add_argument("--out", type=Path, default=Path("data/weights"), help="folder (default: %(default)s)")
    parser.add_argument("--mirror", help="URL or folder to take the file from, in place of its publisher's")
    args = parser.parse_args()
    download(args.name, args.out, args.mirror)


if __name__ == "__main__":
    run(main)
