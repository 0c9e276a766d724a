"""How many images there are, and how many bytes their archives and arrays take, before any is here."""

from pathlib import Path

from lesions import isic, params

OFFICIAL = {"isic2019": 25_331, "isic2018": 2_594, "isic2017": 2_150, "merged": 31_265}  # images
ARCHIVES, ARCHIVE_2020 = 27e9, 23e9  # bytes of the official files together, and of those of 2020


def images(data: params.Data) -> dict[str, int]:
    """How many images of each set `data.source` has, at most: a folder's tables are counted, a URL's are not known."""
    sample, folder = data.sample, Path(data.source).expanduser()
    if data.source == "sample":
        merged = sample.images + data.isic2020 * (sample.images // 10)
        return {"isic2019": sample.images, "isic2018": sample.pairs, "isic2017": sample.images, "merged": merged}
    tables = {"isic2019": [isic.TRUTH_2019], "isic2017": list(isic.TRUTH_2017.values())}
    found = dict(OFFICIAL)
    for name, files in tables.items():
        if all((folder / file).is_file() for file in files):
            found[name] = sum((folder / file).read_bytes().count(b"\n") - 1 for file in files)
    return found | {"merged": found["isic2019"] + data.isic2020 * (OFFICIAL["merged"] - OFFICIAL["isic2019"])}


def archives(data: params.Data) -> float:
    """Bytes of the archives: a folder's are weighed, the others' known."""
    files = [Path(data.source).expanduser() / file for file in isic.files(data.isic2020)]
    if data.source == "sample":
        return 0.1e9
    if data.source != "isic" and all(file.is_file() for file in files):
        return sum(file.stat().st_size for file in files)
    return ARCHIVES + data.isic2020 * ARCHIVE_2020


def arrays(chosen: params.Params) -> dict[str, float]:
    """Bytes of the pixels of each array of images and masks, by its path."""
    count, found = images(chosen.data), {}
    for name, one in chosen.resize.items():
        for array, setting in one.arrays.items():
            area = count[name] * setting.size[0] * setting.size[1]
            found[f"data/resized/{name}/{array}.npy"] = 3 * area
            if name == "isic2018":
                found[f"data/resized/{name}/{array}_masks.npy"] = area
    classify = {name: found.get(f"data/resized/{name}/classify.npy", 0) for name in chosen.resize}
    methods = [method for method, setting in chosen.color_correct.methods if setting is not None]
    found |= {f"data/color/{of}-{method}.npy": classify[of] for of in chosen.color_correct.sets for method in methods}
    found |= {f"data/masks/{of}.npy": classify[of] / 3 for of in chosen.mask.sets}
    return found | {f"data/masked/{name}.npy": classify[one.set] for name, one in chosen.masked.items()}


def needed(chosen: params.Params) -> float:
    """Bytes of the archives and of all arrays; models come to this."""
    return archives(chosen.data) + sum(arrays(chosen).values())
