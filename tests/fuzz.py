"""Fuzz the readers of what comes from elsewhere: archives, CSVs, params.yaml, images.

    python -m tests.fuzz --cases 1000000

A case is a small valid file with bytes flipped, cut, spliced or put in (or, for `blocks`, params.yaml as an object
with values exchanged), drawn by a generator seeded with its number: `--reader csv --first 4711 --cases 1` repeats one.
A reader may return something sound or raise InputError; anything else, or more than SECONDS or GIB, is a finding.
Prints the cases, refusals and findings of each reader; exit code 1 if there is a finding.
"""

import argparse
import contextlib
import copy
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from lesions.core import config
from lesions.core.errors import InputError
from lesions.isic import names as isic
from lesions.raw import photographs, tables, zips
from lesions.tools import check, settings
from lesions.tools.check import Params

ROOT = Path(__file__).resolve().parent.parent
SECONDS, GIB = 5, 4  # a case's time; the process's memory, which a case of a few hundred bytes must not exhaust
PARTS = {"archive": 0.7, "image": 0.1, "blocks": 0.08, "csv": 0.07, "params": 0.05}  # of the cases
TOKENS = {
    "archive": [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"\x01\x00\x10\x00", b"../",
                b"/", b"\\", b"\xff\xff\xff\xff", b"\xff" * 8, b"\x00\x00", b"\x08\x00", b"\x0e\x00", b"\x0c\x00"],
    "csv": [b",", b'"', b"\r\n", b"\n", b"\r", b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"1.0", b"0.0", b"nan", b"inf",
            b"1e999", b"-0.0", b".jpg", b"_downsampled", b"ISIC_0000001", b"'", b";", b"\t", b" ", b"\xa0", b"UNK"],
    "params": [b": ", b"- ", b"\n", b"  ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"<<: ", b"!!int ", b"!!bool ", b"!!",
               b"!!python/object/apply:os.abort []", b"!!timestamp ", b"!!set ", b"!!omap ", b"!!binary ", b"0x", b"0b",
               b"? ", b"| ", b"> ", b"---\n", b"...\n", b"2001-99-99", b"1:2:3", b".nan", b".inf", b"~", b"#", b"'",
               b'"', b"\t", b"\x00", b"\xff", b"[" * 400, b"{a: " * 400],
    "image": [b"\xff\xd8", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xda", b"\xff\xd9", b"\xff\xe1", b"IHDR",
              b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"iCCP", b"zTXt", b"IEND", b"\x00\x00\xff\xff", b"\xff" * 4],
}  # fmt: skip
VALUES = [None, True, False, 0, 1, -1, 2**70, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "none", "AK", "../x",
          "x" * 99, "resized/isic2019/classify", "models/train/residual/bma.pt", "\x00", "é", [], {}, [[]], [None],
          {"a": {}}, {1: 2}]  # fmt: skip


def zipped(name: str, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, stream: bool = False) -> bytes:
    """`stream`: with sizes after the content, as an archive written to a pipe has them."""
    buffer = io.BytesIO()
    if stream:
        buffer.seekable = lambda: False
    with zipfile.ZipFile(buffer, "w", method) as file:
        for member, content in members.items():
            file.writestr(zipfile.ZipInfo(f"{name}/{member}"), content, method)
    return buffer.getvalue()


def archives() -> list[bytes]:
    members = {
        "": b"",
        "LICENSE.txt": b"CC-0",
        "a.jpg": b"\xff\xd8" * 9,
        "b.png": bytes(range(40)),
        "c_superpixels.png": b"x",
    }
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [zipped("a", members, method, stream) for method in methods for stream in (False, True)]


TRUTH = "\r\n".join(["image," + ",".join((*isic.CLASSES, "UNK")), *(
    f"ISIC_000000{i}," + ",".join(str(float(k == i)) for k in range(9)) for i in range(3)), ""])  # fmt: skip
METADATA = "\r\n".join(
    [",".join(tables.METADATA_COLUMNS), *(f"ISIC_000000{i},55.0,head/neck,L{i},male" for i in range(3)), ""]
)
PART_3 = (
    "image_id,melanoma,seborrheic_keratosis\r\nISIC_0000000,1.0,0.0\r\nISIC_0000001,0.0,1.0\r\nISIC_0000002,0.0,0.0\r\n"
)
NAMES = [f"ISIC_000000{i}" for i in range(3)]


def small_params() -> dict:
    """A valid params.yaml with a block of each kind."""
    found = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    keep = {"classifiers": ("residual", "residual_gan", "c_base", "c_resnet_arl", "d_snap", "d_crop"),
            "attention": ("resnet",), "cross_validate": (), "base_models": ("base_64",), "recipes": ("a", "c", "d"),
            "masked": ("isic2017_grey", "isic2019_crop")}  # fmt: skip
    keep |= {"score": ("residual",), "publish": ()}
    for section, names in keep.items():
        found[section] = {name: found[section][name] for name in names}
    found["ensembles"] = {"best": {"members": ["residual"]}}
    one = {key: found["classifiers"]["residual"][key] for key in ("family", "recipe", "set", "images", "weights")}
    found["cross_validate"]["residual-1"] = {"classifier": "residual", "fold": 1, **one}
    return found


SNIPPETS = [
    b"a: &a [1, 2]\nb: *a\n",
    b"a: {b: [1, 2.5, yes, ~], 'c': \"\\x41\"}\n",
    b"- !!int 3\n- 2001-01-02\n- 0x1F\n",
    b"a: |\n  text\nb: >-\n  more\n",
    b"? [k]\n: v\n<<: {x: 1}\n",
    b"train: {lr: 1.0e-3}\nrecipes: {a: {}}\nclassifiers: {}\n",
]


def pictures() -> list[bytes]:
    pixels, found = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8), []
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"):
        image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode).convert(mode)
        for kind, how in (("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True})):
            with contextlib.suppress(OSError):  # a format without that mode
                image.save(buffer := io.BytesIO(), kind, **how)
                found.append(buffer.getvalue())
    image.convert("RGB").save(buffer := io.BytesIO(), "PNG", save_all=True, append_images=[Image.new("RGB", (16, 12))])
    return [*found, buffer.getvalue()]


def read_archive(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    zips.verify(path)
    found = zips.members(path, (".jpg", ".png"))
    with zips.open_archive(path) as file:
        assert found and all(isinstance(photographs.read(file, member)[0], bytes) for member in found.values())


def read_truth(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    (metadata := path.with_name("metadata.csv")).write_text(METADATA, newline="")
    is_table(tables.read_2019(path, metadata, NAMES))


def read_metadata(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    tables.read_lesions(path)
    (truth := path.with_name("truth.csv")).write_text(TRUTH, newline="")
    is_table(tables.read_2019(truth, path, NAMES))


def read_part_3(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    is_table(tables.read_2017(path, NAMES))


def is_table(table) -> None:
    assert sorted(table["image"]) == NAMES and set(table["label"]) <= set(isic.CLASSES)
    assert not table.isna().any(axis=None) and table.map(lambda value: type(value) is str).all(axis=None)
    assert not (table == "").any(axis=None)


def read_params(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert isinstance(check.load(path), Params)
    assert isinstance(settings.read(path), dict)


def read_blocks(path: Path, content: dict) -> None:
    assert isinstance(config.validated(Params, content, path), Params)


def read_image(path: Path, content: bytes) -> None:
    image = photographs.decode(content, path.name)
    assert image.dtype == np.uint8 and image.shape[2:] == (3,)
    photographs.decode_mask(content, path.name, image.shape[:2])


READS: dict[str, list[tuple[str, Callable, list]]] = {  # reader -> file name, how it is read, what is mutated
    "archive": [("a.zip", read_archive, archives())],
    "csv": [
        (f"{name}.csv", read, [text.encode(), text.replace("\r\n", "\n").encode(), text.encode("utf-8-sig")])
        for name, read, text in (("t", read_truth, TRUTH), ("m", read_metadata, METADATA), ("p", read_part_3, PART_3))
    ],
    "params": [
        ("params.yaml", read_params, [*SNIPPETS * 3, yaml.safe_dump(small_params(), default_flow_style=None).encode()])
    ],
    "blocks": [("params.yaml", read_blocks, [small_params()])],
    "image": [("a.jpg", read_image, pictures())],
}  # fmt: skip


def mutated(content: bytes, others: list[bytes], tokens: list[bytes], rng: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at, how = rng.randrange(len(found) + 1), rng.randrange(7)
        if how == 0:
            del found[at:]
        elif how == 1:
            del found[at : at + rng.choice((1, 4, 30))]
        elif how == 2:
            found[at:at] = rng.choice(tokens)
        elif how == 3:
            token = rng.choice(tokens)
            found[at : at + len(token)] = token
        elif how == 4:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            found[at:at] = other[start : start + rng.choice((4, 40, 400))]
        elif how == 5:
            found[at:at] = found[at : at + rng.choice((2, 20, 200))]
        elif at < len(found):
            found[at] = rng.choice((0, 255, found[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
    return bytes(found)


def exchanged(blocks: dict, rng: random.Random) -> dict:
    """A copy of nested dictionaries and lists with a few of their values exchanged, added, moved or removed."""
    found = copy.deepcopy(blocks)
    for _ in range(rng.choice((1, 1, 2, 3))):
        place, depth = found, rng.randrange(5)
        while depth and (inner := [v for v in values(place) if isinstance(v, (dict, list)) and v]):
            place, depth = rng.choice(inner), depth - 1
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place))) if place else None
        how, value = rng.randrange(5), copy.deepcopy(rng.choice([*VALUES, *values(place), *values(blocks)]))
        if how == 0 and place:
            del place[key]
        elif how == 1 and isinstance(place, dict):
            place[rng.choice(["x", "", "a.b", "isic2019", "residual-2", 7, None, True])] = value
        elif place:
            place[key] = value
    return found


def values(of: dict | list) -> list:
    return list(of.values()) if isinstance(of, dict) else of


def case(reader: str, number: int) -> tuple[str, Callable, bytes | dict]:
    """The file name, the way to read it and the content of a reader's case of that number."""
    rng = random.Random(f"{reader} {number}")
    name, read, valid = rng.choice(READS[reader])
    if reader == "blocks":
        return name, read, exchanged(valid[0], rng)
    return name, read, mutated(rng.choice(valid), valid, TOKENS[reader], rng)


class Late(BaseException):
    """A reader took more than SECONDS of the processor. No Exception, which it could take for the file's fault."""


def late(signum, frame) -> None:
    raise Late(f"more than {SECONDS} s")


def run(reader: str, numbers: Iterable[int], folder: Path) -> tuple[Counter, dict[str, tuple[int, str, int]]]:
    """Counts (read, refused, found), and each distinct finding: how often, the first case's number, its message."""
    counts, findings = Counter(), {}
    before = signal.signal(signal.SIGPROF, late)
    try:
        for number in numbers:
            name, read, content = case(reader, number)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                read(folder / name, content)
                counts["read"] += 1
            except InputError as error:
                assert Path(name).suffix in str(error)  # the file is named
                counts["refused"] += 1
            except (Exception, Late) as error:
                counts["found"] += 1
                frame = [f for f in traceback.extract_tb(error.__traceback__) if "/tests/" not in f.filename][-1:]
                where = f"{Path(frame[0].filename).name}:{frame[0].name}" if frame else "result"
                key = f"{type(error).__name__} in {where}"
                times, first, message = findings.get(key, (0, number, str(error)[:120]))
                findings[key] = (times + 1, first, message)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.signal(signal.SIGPROF, before)
    return counts, findings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="of all readers, or of the one chosen")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--reader", choices=sorted(READS))
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (GIB << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))
    found, memory = 0, "/dev/shm" if Path("/dev/shm").is_dir() else None
    for reader, part in {args.reader: 1.0}.items() if args.reader else PARTS.items():
        cases, began = round(part * args.cases), time.monotonic()
        with tempfile.TemporaryDirectory(dir=memory) as folder, contextlib.redirect_stderr(Path(os.devnull).open("w")):
            counts, findings = run(reader, range(args.first, args.first + cases), Path(folder))
        took = time.monotonic() - began
        print(f"{reader}: {cases} cases in {took:.0f} s: {counts['read']} read, {counts['refused']} refused, "
              f"{counts['found']} found", flush=True)  # fmt: skip
        for key, (times, first, message) in findings.items():
            print(f"  {times} × {key}, first {first}: {message}", flush=True)
        found += counts["found"]
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
