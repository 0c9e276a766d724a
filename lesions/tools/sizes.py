"""Say how many images there are, and how many bytes their archives and arrays take, before any is here."""

from pathlib import Path

from lesions.download.fetch import unpacked
from lesions.isic import names as isic
from lesions.raw.config import Data, Own
from lesions.tools.check import Params

OFFICIAL = {"isic2019": 25_331, "isic2018": 2_594, "isic2017": 2_150, "merged": 31_265}  # images
ARCHIVES, ARCHIVE_2020 = 27e9, 23e9  # bytes of the official files together, and of those of 2020


def images(data: Data) -> dict[str, int]:
    """Count the images of each set that `data.source` has, at most: a folder's by its tables; a URL's are not known."""
    sample, folder = data.sample, Path(data.source).expanduser()
    if data.source == "sample":
        merged = sample.images + data.isic2020 * (sample.images // 10)
        return {"isic2019": sample.images, "isic2018": sample.pairs, "isic2017": sample.images, "merged": merged}
    tables = {"isic2019": [isic.TRUTH_2019], "isic2017": list(isic.TRUTH_2017.values())}
    found = dict(OFFICIAL)
    for name, files in tables.items():
        if all((folder / file).is_file() for file in files):
            found[name] = sum((folder / file).read_bytes().count(b"\n") - 1 for file in files)
    found |= {"merged": found["isic2019"] + data.isic2020 * (OFFICIAL["merged"] - OFFICIAL["isic2019"])}
    own = {name: folder / of.table for name, of in data.sets.items() if isinstance(of, Own)}
    return found | {name: path.read_bytes().count(b"\n") if path.is_file() else 0 for name, path in own.items()}


def weight(file: Path) -> int:
    """Return the bytes of a file, or of the folder that it is the archive of; 0 if neither is there."""
    folder = unpacked(file)
    files = [file] if file.is_file() else folder.rglob("*") if folder.is_dir() else []
    return sum(each.stat().st_size for each in files)


def archives(data: Data) -> float:
    """Return the bytes of the archives: a folder's are weighed, the others' known."""
    if data.source == "sample":
        return 0.1e9
    weighed = [weight(Path(data.source).expanduser() / file) for file in data.files]
    return sum(weighed) if all(weighed) else ARCHIVES + data.isic2020 * ARCHIVE_2020


def needed(chosen: Params) -> float:
    """Return the bytes of the archives and of all arrays of images and masks; models come to this."""
    count, color, total = images(chosen.data), chosen.color_correct, archives(chosen.data)
    for name, one in chosen.resize.items():
        areas = {array: count[name] * setting.shape[0] * setting.shape[1] for array, setting in one.arrays.items()}
        total += sum(areas.values()) * (4 if name == "isic2018" else 3)  # whose masks are resized too
        again = len(color.methods.model_fields_set) * (name in color.sets)
        again += sum(masked.set == name for masked in chosen.masked.values())
        total += (3 * again + (name in chosen.predict_masks.sets)) * areas.get("classify", 0)
    return total
