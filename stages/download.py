"""Download: bring the official ISIC files to data/raw/<year>/, each proved sound and held to data/checksums.json.

    python -m stages.download [--accept YEAR/FILE ...]

`data.source` in params.yaml says from where: sample (made here), isic (the official servers), or a URL or folder laid
out as <year>/<file>; `data.sets`, `data.tests` and `data.isic2020` say which files. Files are kept below .download/,
and data/raw has links to them: a change of source and back fetches nothing. An interrupted download goes on where it
stopped; an official archive put into data/raw by hand is proved and used; nothing is unpacked. A file that differs from
its record is refused, in data/raw as in a folder that is the source; --accept takes it as it is now, and records it.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from lesions.core import config
from lesions.core.errors import InputError, nearest, run
from lesions.download import checksums, fetch, store
from lesions.download.checksums import Checksum
from lesions.download.config import RAW, STORE, refuse_links, refuse_own
from lesions.download.servers import bases
from lesions.isic.names import FILES_2020, OFFICIAL, TESTS, files
from lesions.raw import tables, zips
from lesions.raw.config import Data, Sample

HEADS = ("image", "image_id", "image_name", "image_name_1", "ISIC_id")  # of the tables
DEFAULT_SAMPLE = Sample(seed=0, images=640, pairs=160)
LESIONS = Path(zips.__file__).parents[1]
DRAWING = sorted([*LESIONS.glob("sample/*.py"), *LESIONS.glob("isic/*.py")])  # what decides the sample's bytes


def record_name(data: Data) -> str:
    """Return the source's name in data/checksums.json: a sample made with other parameters is another source."""
    if data.source != "sample" or data.sample == DEFAULT_SAMPLE:
        return data.source.rstrip("/")
    return f"sample seed={data.sample.seed} images={data.sample.images} pairs={data.sample.pairs}"


def accepting(file: str) -> str:
    return f"accept the new one: python -m stages.download --accept {file}"


def prove(path: Path, source: str, file: str, found: Checksum, recorded: Checksum | None) -> None:
    """Raise InputError unless `file` of `source`, now at `path`, equals its record or, without one, is sound."""
    checksums.hold(f"{source}: {file}", found, recorded, f"run again to fetch it anew, or {accepting(file)}")
    if not file.lower().endswith(".zip"):
        official = Path(file).name in OFFICIAL
        header = set(tables.lines_of(path, HEADS if official else ("the columns that data.sets names",))[0][1])
        if official and not header & set(HEADS):
            raise InputError(f"{path}: expected a table with one of the columns {', '.join(HEADS)}; check data.source")
    elif recorded:
        zips.open_archive(path).close()
    else:
        zips.verify(path)


def owner(data: Data, path: Path, file: str, found: Checksum, records: checksums.Records) -> Path:
    """Return the folder of the store that a file of data/raw belongs to: that of a source that is known to have it.

    A sound file of data.source that has no record yet is its own. Raises InputError for any other file.
    """
    source = record_name(data)
    mine, recorded = store.folder(source), None if data.source == "sample" else records.get(source, {}).get(file)
    if found.sha256 == fetch.expected(mine / file, recorded):
        return mine
    for name, of in records.items():
        if name != source and of.get(file) == found:
            return store.folder(name)
    for folder in STORE.glob("*"):
        if folder != mine and fetch.expected(folder / file, None) == found.sha256:
            return folder
    checksums.hold(str(path), found, recorded, f"move it elsewhere and run again, or {accepting(file)}")
    if data.source == "sample" or file not in data.files:
        raise InputError(
            f"{path}: not a file of data.source {data.source}; {way_in(data, file)}move it elsewhere and run again"
        )
    bases(source, ())
    prove(path, source, file, found, None)
    return mine


def way_in(data: Data, file: str) -> str:
    """Say how a file of data/raw could be used, if it has an official name."""
    home = next((name for name in files(True, TESTS) if Path(name).name == Path(file).name), file)
    if home != file:
        return f"put it at data/raw/{home}, or "
    if file in files(True, TESTS) and data.source == "sample":
        return "say data.source isic to use it, or "
    for test, named in TESTS.items():
        if file in named:
            return f"name {test} in data.tests to use it, or "
    return "set data.isic2020 to true to use it, or " if file in FILES_2020 else ""


def settle(data: Data) -> dict[str, Checksum]:
    """Move all files in data/raw that are not in the store into it; return the checksums of those of the source.

    A sound archive that was put there by hand is recorded. Raises InputError for any other before anything is moved.
    """
    source, known = record_name(data), checksums.read()
    found = {file: checksums.of(path) for file, path in store.listed().items()}
    owners = {file: owner(data, RAW / file, file, entry, known) for file, entry in found.items()}
    ours = {file: found[file] for file, folder in owners.items() if folder == store.folder(source)}
    checksums.record(source, ours)
    for file, folder in owners.items():
        kept = folder / file
        note = fetch.read_note(kept) | {"sha256": found[file].sha256}
        if not store.same(kept, RAW / file):
            fetch.discard(kept)
            store.adopt(RAW / file, kept)
        fetch.write_note(kept, **note)
    return ours


def collect(source: str, wanted: tuple[str, ...], here: dict[str, Checksum]) -> dict[str, Checksum]:
    """Fetch the `wanted` files that are neither `here` nor in the source's store; prove all and return checksums."""
    folder, recorded, found = store.folder(source), checksums.read().get(source, {}), {}
    have = {file: here.get(file) or fetch.whole(folder / file, recorded.get(file)) for file in wanted}
    missing = tuple(file for file in wanted if not have[file])
    places = bases(source, missing) if missing else ()
    small_first = sorted(wanted, key=lambda name: name.lower().endswith(".zip"))  # a wrong source shows
    for file in small_first:
        path = folder / file
        found[file] = have[file] or fetch.fetch([f"{base}/{file}" for base in places], path)
        place = fetch.read_note(path).get("place", str(path))
        try:
            prove(path, source, file, found[file], recorded.get(file))
        except InputError as error:
            fetch.discard(path)
            raise InputError(str(error).replace(str(path), place)) from None
        if (now := fetch.seen(place)) and now != fetch.read_note(path).get("seen"):  # touched, or mended
            if not Path(place).is_file():
                raise InputError(f"{fetch.unpacked(Path(place))}: changed since it was packed; {accepting(file)}")
            checksums.hold(place, checksums.of(Path(place)), found[file], accepting(file))
            fetch.write_note(path, seen=now)
    return found


def make(data: Data, wanted: tuple[str, ...]) -> dict[str, Checksum]:
    """Draw the embedded sample into its store, unless the same code has drawn it there before; return checksums.

    No publisher vouches for it; bytes that differ from the record are only told on stderr.
    """
    source = record_name(data)
    folder, recorded = store.folder(source), checksums.read().get(source, {})
    code = hashlib.sha256(b"".join(path.read_bytes() for path in DRAWING)).hexdigest()
    if not all(fetch.read_note(folder / file).get("code") == code and fetch.whole(folder / file) for file in wanted):
        from lesions.sample import writing

        for file in files(True, TESTS):
            if fetch.whole(folder / file) and store.same(folder / file, RAW / file):  # else somebody wrote to it
                (RAW / file).unlink()
        writing.write(folder, data.sample, data.isic2020, data.tests)
        for file in wanted:
            fetch.write_note(folder / file, code=code, sha256=checksums.of(folder / file).sha256)
    found = {file: checksums.of(folder / file) for file in wanted}
    if any(recorded.get(file, found[file]) != found[file] for file in wanted):
        print(
            "sample: drawn with other bytes than data/checksums.json records (another CPU or image library rounds "
            "otherwise): our numbers here can differ a little from the committed ones",
            file=sys.stderr,
        )
    return found


def download(data: Data) -> None:
    """Fill data/raw with links to the files of data.source in the store, fetching or drawing what is not there."""
    refuse_own(data.source)
    refuse_links()
    source, wanted = record_name(data), data.files
    found = make(data, wanted) if data.source == "sample" else {}
    here = settle(data)
    found = found or collect(source, wanted, here)
    checksums.record(source, found)
    store.place(store.folder(source), wanted)
    print(f"{RAW}: {sum(entry.size for entry in found.values()) / 1e6:.1f} MB in {len(wanted)} files")


def renew(data: Data, accepted: Sequence[str]) -> None:
    """Prove and record `accepted` as they are now in data/raw or, where data/raw has them as recorded, at the source;
    then download. Raises InputError, with the records as they were, for a file that is unsound or none of the source's.
    """
    source, wanted = record_name(data), data.files
    for file in accepted:
        if data.source == "sample" or file not in wanted:
            raise InputError(f"--accept {file}: not a file of data.source {data.source}{nearest(file, wanted)}")
    forgotten = checksums.forget(source, accepted)
    for file in accepted:
        if (RAW / file).exists() and checksums.of(RAW / file) == forgotten.get(file):
            (RAW / file).unlink()
        fetch.discard(store.folder(source) / file)
    try:
        download(data)
    except InputError:
        checksums.record(source, forgotten)
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--accept", nargs="+", default=[], metavar="YEAR/FILE", help="files that were changed on purpose"
    )
    accepted, data = parser.parse_args().accept, config.read("data", Data)
    if accepted:
        renew(data, accepted)
    else:
        download(data)


if __name__ == "__main__":
    run(main)
