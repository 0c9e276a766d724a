"""The readers on what nobody meant them to read: a few thousand cases here, a million by `python -m tests.fuzz`."""

import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lesions.core import config
from lesions.core.errors import InputError
from lesions.isic import names as isic
from lesions.raw import tables, zips
from lesions.tools import check
from lesions.tools.check import Params
from tests import fuzz

FEW = settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.sampled_from([*fuzz.NAMES, "ISIC_0000001_downsampled", "ISIC_0000002.jpg", "", " "]) | TEXT
CELL = st.sampled_from(["0.0", "1.0", "1", "", "nan", '"0.0"', "1e0"]) | TEXT
CASES = {"archive": 2000, "image": 1000, "blocks": 500, "csv": 200, "params": 200}


@pytest.mark.parametrize("reader", fuzz.PARTS)
def test_a_mutated_file_is_read_or_refused(tmp_path, reader):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of members of one name
        counts, findings = fuzz.run(reader, range(CASES[reader]), tmp_path)
    assert findings == {}
    assert counts["refused"] > 0 and sum(counts.values()) == CASES[reader]


@pytest.mark.parametrize("reader", fuzz.PARTS)
def test_what_is_mutated_is_valid(tmp_path, reader):
    """Else every case would be refused at its first byte. Two archives' packing and what YAML lacks is refused."""
    good = 0
    for name, read, contents in fuzz.READS[reader]:
        for content in contents:
            try:
                read(tmp_path / name, content)
                good += 1
            except InputError:
                pass
    assert good >= {"archive": 4, "image": 14, "blocks": 1, "csv": 9, "params": 1}[reader]


def test_a_case_is_the_same_whenever_it_is_drawn():
    for reader in fuzz.PARTS:
        assert fuzz.case(reader, 3)[2] == fuzz.case(reader, 3)[2] != fuzz.case(reader, 4)[2]


def test_a_reader_that_takes_too_long_is_found_whatever_it_catches(tmp_path, monkeypatch):
    def endless(path, content):
        try:
            while True:
                pass
        except Exception as error:
            raise InputError(f"{path}: {error}") from error

    monkeypatch.setattr(fuzz, "SECONDS", 0.05)
    monkeypatch.setitem(fuzz.READS, "image", [("a.jpg", endless, [b"abc"])])
    counts, findings = fuzz.run("image", range(2), tmp_path)
    assert counts == {"found": 2} and findings == {"Late in result": (2, 0, "more than 0.05 s")}


def test_a_finding_is_counted_with_its_first_case(tmp_path, monkeypatch):
    def broken(path, content):
        raise ZeroDivisionError("x")

    monkeypatch.setitem(fuzz.READS, "image", [("a.jpg", broken, [b"abc", b"def"])])
    counts, findings = fuzz.run("image", range(5, 9), tmp_path)
    assert counts == {"found": 4} and findings == {"ZeroDivisionError in result": (4, 5, "x")}


MEMBER = st.tuples(
    st.sampled_from(["a/", "a/b/", "", "/", "../", "a/../", "a\\", "C:", "__MACOSX/", "A/"]),
    TEXT | st.sampled_from(["x.jpg", "x.png", "x.JPG", "LICENSE.txt", "x_superpixels.png", "."]),
    st.binary(max_size=40),
    st.sampled_from([0, 8, 12, 14]),
    st.sampled_from([0, 0o100644 << 16, 0o120777 << 16, 0o040755 << 16, 0o060644 << 16]),
)


@FEW
@given(st.lists(MEMBER, max_size=6), st.binary(max_size=30), st.binary(max_size=30))
def test_an_archive_of_odd_members_is_read_or_refused(tmp_path, listed, before, after):
    path = tmp_path / "a.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")
        for folder, name, content, method, kind in listed:
            entry = zipfile.ZipInfo(f"{folder}{name}" or "x")
            entry.external_attr, entry.compress_type = kind, method
            file.writestr(entry, content)
    path.write_bytes(before + path.read_bytes() + after)
    try:
        zips.verify(path)
        found = zips.members(path, (".jpg", ".png"))
    except InputError as error:
        assert str(path) in str(error)
        return
    for member in found.values():
        assert member.startswith("a/") and ".." not in Path(member).parts


@FEW
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1))
def test_sizes_that_an_archive_claims_are_not_believed(tmp_path, packed, unpacked, count):
    """In the central directory: a member's sizes and the number of members."""
    path, content = tmp_path / "a.zip", bytearray(fuzz.zipped("a", {"x.jpg": b"x" * 30}))
    at, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    struct.pack_into("<II", content, at + 20, packed, unpacked)
    struct.pack_into("<HH", content, end + 8, count, count)
    path.write_bytes(content)
    try:
        zips.verify(path)
        assert zips.members(path, (".jpg",)) == {"x": "a/x.jpg"}
    except InputError as error:
        assert str(path) in str(error)


@FEW
@given(
    st.permutations([*tables.TRUTH_COLUMNS]) | st.lists(TEXT, max_size=3),
    st.lists(st.tuples(NAME, st.lists(CELL, min_size=7, max_size=11)), max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_of_odd_cells_is_read_or_refused(tmp_path, header, rows, end, encoding):
    lines = [",".join(header), *(",".join([name, *cells]) for name, cells in rows)]
    path = tmp_path / "truth.csv"
    path.write_bytes(end.join(lines).encode(encoding))
    try:
        found = tables.read_labels(path)
    except InputError as error:
        assert str(path) in str(error)
        return
    assert set(found["label"]) <= set(isic.CLASSES) and found["image"].is_unique and not (found["image"] == "").any()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3),
    max_leaves=8,
)
SMALL = fuzz.small_params()


@FEW
@given(st.dictionaries(st.sampled_from(sorted(SMALL)), PLAIN, min_size=1, max_size=3))
def test_sections_of_anything_are_read_or_refused(tmp_path, sections):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")  # alone: sections are missing in any case
    with pytest.raises(InputError) as error:
        check.load(path)
    assert str(error.value).startswith(f"{path}: ") and len(str(error.value)) < 1000
    try:
        config.validated(Params, SMALL | sections, path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error)) < 1000
