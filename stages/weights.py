"""Weights: bring one set of pretrained weights to data/weights/<name>, held to its publisher's hash and to its record.

    python -m stages.weights lite0

Reads the source from the section weights of params.yaml (lesions/download/weights.py) and data/checksums.json.
--mirror: a URL or folder that has the same file names (of timm's: <network>.<tag>.safetensors).
"""

import argparse
from pathlib import Path

from lesions.core import config
from lesions.core.errors import InputError, run
from lesions.download import checksums, fetch, store, weights

OUT = Path("data/weights")


def download(name: str, source: str, mirror: str | None = None) -> None:
    """Bring the weights of `source` to data/weights/<name>: a link to the store, which serves a later run too."""
    recorded = checksums.read().get("weights", {}).get(source)
    place = weights.place(source)
    file = weights.file_name(source, place)
    if mirror:
        place = f"{mirror.rstrip('/')}/{file}"
    path = store.folder(source) / file
    found = fetch.whole(path, recorded) if fetch.is_url(place) else None  # a local file may have changed
    found = found or fetch.fetch([place], path)
    try:
        weights.verify(source, file, found.sha256, path)
        checksums.hold(
            source, found, recorded, "run again, or delete the record there if the publisher changed the file"
        )
    except InputError:
        fetch.discard(path)
        raise
    (OUT / name).unlink(missing_ok=True)
    store.link(path, OUT / name)
    checksums.record("weights", {source: found})
    print(f"{OUT / name}: {found.size / 1e6:.1f} MB, sha256 {found.sha256}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a name of params.yaml: weights")
    parser.add_argument("--mirror", help="URL or folder to take the file from, in place of its publisher's")
    args = parser.parse_args()
    download(args.name, config.read(f"weights.{args.name}", str), args.mirror)


if __name__ == "__main__":
    run(main)
