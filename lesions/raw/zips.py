"""Open the official zips, prove that they are sound, and find files in them; nothing is extracted."""

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from lesions.core.errors import InputError
from lesions.core.files import CHUNK, is_litter
from lesions.isic.names import FOLDERS, OFFICIAL

ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits: encrypted, strong encryption, encrypted central directory
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that ISIC uses; an LZMA header can ask for 4 GB of memory
LARGEST = 1 << 28  # bytes of a member, packed or not, as it is read into memory; the largest photograph has 20 MB
RATIO, SLACK = 20, 1 << 24  # a sound archive of photographs unpacks to hardly more than its size
TEXTS = ("LICENSE.txt", "ATTRIBUTION.txt")
PICTURES = (".jpg", ".jpeg", ".png")
OF_MASKS = re.compile(r"_(segmentation|mask)$", re.IGNORECASE)  # at the end of a mask's name, or nothing
BROKEN = (OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)  # of damaged bytes


def _fault(member: zipfile.ZipInfo, folders: tuple[str, ...]) -> str | None:
    """Return what is wrong with a member's entry, or None: it must be a plain file or folder, of an official archive
    in one of `folders`."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name):
        return "leaves its folder"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device, not a file"
    if member.compress_type not in METHODS:
        return f"is packed by method {member.compress_type}; expected stored or deflated"
    if (largest := max(member.file_size, member.compress_size)) > LARGEST:
        return f"has {largest / 1e6:.0f} MB, more than any photograph"
    if not parts:
        return "has no name"
    if folders and not (parts[0] in (*folders, *TEXTS) or is_litter(PurePosixPath(name))):
        return f"is not in the folder {'/ or '.join(folders)}/, where the official archive of this name has all"
    return None


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open the zip at `path` for reading. Raises InputError unless it is whole and every member's entry is sound."""
    path = Path(path)
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run the download stage") from None
    except BROKEN as error:
        raise InputError(f"{path}: not a whole zip archive ({error}); delete it and download it again") from None
    folders = tuple(filter(None, (path.stem, FOLDERS.get(path.name)))) if path.name in OFFICIAL else ()
    for member in archive.infolist():
        if fault := _fault(member, folders):
            archive.close()
            raise InputError(f"{path}: member {member.orig_filename!r} {fault}; take the file from its publisher")
    size, unpacked = path.stat().st_size, sum(member.file_size for member in archive.infolist())
    if unpacked > RATIO * size + SLACK:
        archive.close()
        raise InputError(f"{path}: {size} bytes unpack to {unpacked}: a zip bomb; take the file from its publisher")
    return archive


def verify(path: Path) -> None:
    """Read every member of the zip at `path` once, so that its checksums prove it. Raises InputError."""
    with open_archive(path) as archive:
        total = sum(member.compress_size for member in archive.infolist())
        with tqdm(desc=f"verify {Path(path).name}", total=total, unit="B", unit_scale=True) as bar:
            for member in archive.infolist():
                try:
                    with archive.open(member) as file:
                        while file.read(CHUNK):
                            pass
                except BROKEN as error:
                    raise InputError(
                        f"{path}: member {member.filename!r} is damaged ({error}); delete it and download it again"
                    ) from None
                bar.update(member.compress_size)


def members(path: Path, suffixes: Collection[str]) -> dict[str, str]:
    """Return {file name without extension: member name}, sorted, of the members that have one of `suffixes`.

    Folders, licence texts, operating systems' litter and ISIC 2017's superpixel images are left out. Raises InputError
    if two members share a name, or if there is none.
    """
    found: dict[str, str] = {}
    with open_archive(path) as archive:
        for name in archive.namelist():
            file = PurePosixPath(name)
            skipped = name.endswith("/") or is_litter(file) or file.stem.endswith("_superpixels")
            if skipped or file.suffix.lower() not in suffixes or file.name in TEXTS:
                continue
            if file.stem in found:
                raise InputError(f"{path}: {found[file.stem]!r} and {name!r} have one name; expected one file an image")
            found[file.stem] = name
    if not found:
        raise InputError(f"{path}: no {' or '.join(suffixes)} file in it; expected the official archive of this name")
    return dict(sorted(found.items()))


def masks(path: Path) -> dict[str, str]:
    """Return {image: member name} of the PNGs at `path`: a mask has its image's name, with _segmentation, _mask or
    nothing behind it. Raises InputError if two are of one image."""
    found: dict[str, str] = {}
    for stem, member in members(path, (".png",)).items():
        image = OF_MASKS.sub("", stem)
        if image in found:
            raise InputError(f"{path}: {found[image]!r} and {member!r} are of one image; expected one mask an image")
        found[image] = member
    return found
