"""Bring the official ISIC files to data/raw/<year>/, each proved sound and held to data/checksums.json.

    python -m stages.download

`data.source` in params.yaml says from where: sample (made here), isic (the official servers), or a URL or folder
laid out as <year>/<file>. An interrupted download goes on where it stopped; nothing is unpacked.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lesions import archive, checksums, fetch, params
from lesions.checksums import Checksum
from lesions.errors import InputError, run
from lesions.files import replacing_folder
from lesions.isic import FILES
from lesions.params import Data, Sample

OFFICIAL = (
    "https://isic-archive.s3.amazonaws.com/challenges",
    "https://isic-challenge-data.s3.amazonaws.com",  # until 2025
)
DEFAULT_SAMPLE = Sample(seed=0, images=640, pairs=160)


def bases(source: str) -> tuple[str, ...]:
    """Where the files of `data.source` are, below <year>/, in order of preference."""
    if source == "isic":
        return OFFICIAL
    if fetch.is_url(source):
        return (source,)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"params.yaml: data.source: {source!r} is not sample, isic, an http(s) URL or a folder's path")
    for file in FILES:  # before gigabytes are copied
        if not (folder / file).is_file():
            raise InputError(f"{folder / file}: not found; data.source must be a folder laid out as <year>/<file>")
    return (str(folder),)


def record_name(data: Data) -> str:
    """The source's name in data/checksums.json: a sample made with other parameters is another source."""
    if data.source != "sample" or data.sample == DEFAULT_SAMPLE:
        return data.source.rstrip("/")
    return f"sample seed={data.sample.seed} images={data.sample.images} pairs={data.sample.pairs}"


def prove(path: Path, source: str, file: str, found: Checksum, recorded: Checksum | None) -> None:
    """Raise InputError unless `file` of `source`, now at `path`, is what was recorded, or at first sight sound."""
    if recorded and found != recorded:
        raise InputError(
            f"{source}: {file}: sha256 {found['sha256']} ({found['size']} bytes), but data/checksums.json records "
            f"{recorded['sha256']} ({recorded['size']} bytes); run again to fetch it anew, or delete the record "
            f"there if the publisher changed the file"
        )
    if file.endswith(".csv"):
        with path.open("rb") as table:
            if not table.read(9).startswith((b"image,", b"image_id,")):
                raise InputError(
                    f"{source}: {file}: expected a table whose first column is image or image_id; check data.source"
                )
    elif recorded:
        archive.open_archive(path).close()
    else:
        archive.verify(path)


def collect(source: str, folder: Path, recorded: dict[str, Checksum], sleep: Callable) -> dict[str, Checksum]:
    """All files, proved, into `folder`; they go there when the last of them is."""
    places, store, found = bases(source), fetch.store(source), {}
    for file in sorted(FILES, key=lambda name: name.endswith(".zip")):  # the small ones first: a wrong source shows
        path = store / file
        sha256 = fetch.fetch([f"{base}/{file}" for base in places], path, sleep)
        found[file] = {"sha256": sha256, "size": path.stat().st_size}
        try:
            prove(path, source, file, found[file], recorded.get(file))
        except InputError:
            fetch.discard(path)
            raise
    for file in FILES:
        fetch.deliver(store / file, folder / file)
    return found


def make(data: Data, folder: Path, recorded: dict[str, Checksum]) -> dict[str, Checksum]:
    """The embedded sample into `folder`: drawn here, so there is no publisher to hold to; other bytes are told."""
    from lesions import sample

    sample.write(folder, data.sample)
    found = {file: checksums.of(folder / file) for file in FILES}
    if any(recorded.get(file, found[file]) != found[file] for file in FILES):
        print(
            "sample: drawn with other bytes than data/checksums.json records (another CPU or image library rounds "
            "otherwise): our numbers here can differ a little from the committed ones",
            file=sys.stderr,
        )
    return found


def download(data: Data, out: Path, records: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    source = record_name(data)
    recorded = checksums.read(records).get(source, {})
    with replacing_folder(out) as folder:
        found = make(data, folder, recorded) if data.source == "sample" else collect(source, folder, recorded, sleep)
        if new := {file: found[file] for file in FILES if file not in recorded}:
            checksums.record(records, source, new)
            print(
                f"{records}: recorded {len(new)} of {len(FILES)} files of {source}; commit it, it is held to from now"
            )
    fetch.clear(source)
    print(f"{out}: {sum(entry['size'] for entry in found.values()) / 1e6:.1f} MB in {len(FILES)} files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("data/raw"), help="folder to fill (default: %(default)s)")
    parser.add_argument(
        "--checksums", type=Path, default=Path("data/checksums.json"), help="the records (default: %(default)s)"
    )
    args = parser.parse_args()
    download(params.read("data").data, args.out, args.checksums)


if __name__ == "__main__":
    run(main)
