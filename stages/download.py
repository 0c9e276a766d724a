"""Bring the official ISIC files to data/raw/<year>/, each proved sound and held to data/checksums.json.

    python -m stages.download

`data.source` in params.yaml says from where: sample (made here), isic (the official servers), or a URL or folder
laid out as <year>/<file>; `data.isic2020` whether the files of 2020 are among them. An interrupted download goes on
where it stopped; nothing is unpacked.
"""

import argparse
import codecs
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lesions import archive, checksums, fetch, params
from lesions.checksums import Checksum
from lesions.errors import InputError, run
from lesions.files import replacing_folder
from lesions.isic import files
from lesions.params import Data, Sample
from lesions.source import bases

HEADS = (b"image", b"image_id", b"image_name", b"image_name_1", b"ISIC_id")  # of the tables
DEFAULT_SAMPLE = Sample(seed=0, images=640, pairs=160)


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
            if table.readline(100).removeprefix(codecs.BOM_UTF8).split(b",")[0] not in HEADS:
                heads = ", ".join(head.decode() for head in HEADS)
                raise InputError(
                    f"{source}: {file}: expected a table whose first column is one of {heads}; check data.source"
                )
    elif recorded:
        archive.open_archive(path).close()
    else:
        archive.verify(path)


def collect(
    source: str, wanted: tuple[str, ...], folder: Path, recorded: dict[str, Checksum], sleep: Callable
) -> dict[str, Checksum]:
    """The `wanted` files, proved, into `folder`; they go there when the last of them is."""
    places, store, found = bases(source, wanted), fetch.store(source), {}
    for file in sorted(wanted, key=lambda name: name.endswith(".zip")):  # the small ones first: a wrong source shows
        path = store / file
        sha256 = fetch.fetch([f"{base}/{file}" for base in places], path, sleep)
        found[file] = {"sha256": sha256, "size": path.stat().st_size}
        try:
            prove(path, source, file, found[file], recorded.get(file))
        except InputError:
            fetch.discard(path)
            raise
    for file in wanted:
        fetch.deliver(store / file, folder / file)
    return found


def make(data: Data, folder: Path, recorded: dict[str, Checksum]) -> dict[str, Checksum]:
    """The embedded sample into `folder`: drawn here, so there is no publisher to hold to; other bytes are told."""
    from lesions import sample

    sample.write(folder, data.sample, data.isic2020)
    found = {file: checksums.of(folder / file) for file in files(data.isic2020)}
    if any(recorded.get(file, found[file]) != found[file] for file in found):
        print(
            "sample: drawn with other bytes than data/checksums.json records (another CPU or image library rounds "
            "otherwise): our numbers here can differ a little from the committed ones",
            file=sys.stderr,
        )
    return found


def download(data: Data, out: Path, records: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    source, wanted = record_name(data), files(data.isic2020)
    recorded = checksums.read(records).get(source, {})
    with replacing_folder(out) as folder:
        if data.source == "sample":
            found = make(data, folder, recorded)
        else:
            found = collect(source, wanted, folder, recorded, sleep)
        if new := {file: found[file] for file in wanted if file not in recorded}:
            checksums.record(records, source, new)
            print(
                f"{records}: recorded {len(new)} of {len(wanted)} files of {source}; commit it, it is held to from now"
            )
    fetch.clear(source)
    print(f"{out}: {sum(entry['size'] for entry in found.values()) / 1e6:.1f} MB in {len(wanted)} files")


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
