"""Small official-looking data for the tests; nothing here needs the network or real images."""

import io
import os
import signal
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torchvision  # noqa: F401  before TensorFlow: Triton's LLVM, loaded after TensorFlow's, aborts the process
from PIL import Image

from lesions.isic import names as isic

# The official scorer imports this for its reading of zips, which no test uses; it would have to be compiled.
sys.modules.setdefault("zipfile_deflate64", zipfile)

os.environ["KERAS_BACKEND"] = "tensorflow"  # of this process, whoever imports Keras first

ROOT = Path(__file__).resolve().parent.parent
FULL_CSVS = Path(os.environ.get("ISIC_CSVS", ROOT.parent / "shared/isic/full_csv"))

# What operating systems, disk stations and clouds put among people's files.
STREWN = (
    ".DS_Store", "._names.py", "Thumbs.db", "thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", ".directory",
    ".localized", "@eaDir/a.jpg/SYNOFILE_THUMB_M.jpg", ".AppleDouble/a.jpg", ".fseventsd/0", ".Spotlight-V100/x",
    ".Trashes/a.jpg", ".Trash-1000/files/a.jpg", ".TemporaryItems/x", ".nfs00000000006a", ".dropbox.attr",
    "__MACOSX/a/._a.jpg", "lost+found/a.jpg",
)  # fmt: skip

# Table 5.1 of study A.
COUNTS = {"MEL": 4522, "NV": 12875, "BCC": 3323, "AK": 867, "BKL": 2624, "DF": 239, "VASC": 253, "SCC": 628}


def hear_sigint() -> None:
    """For Popen's preexec_fn: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def jpeg(rng: np.random.Generator, height: int = 48, width: int = 64) -> bytes:
    content = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(content, "JPEG")
    return content.getvalue()


def png(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{path.stem}/{name}", content)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """data/raw as the official archives lay it out: 96 images of 2019 (12 a class, two a lesion) and 60 pairs.

    ISIC 2017: the MEL, NV and BKL among them, the first 24 to train and the last 12 to validate. ISIC 2020: 24 images,
    three a diagnosis, of which the first two are one lesion, and the last four have no lesion_id; a pair of duplicates.
    """
    rng, folder = np.random.default_rng(0), tmp_path / "raw"
    names = [f"ISIC_{i:07d}" + ("_downsampled" if i % 10 == 3 else "") for i in range(96)]
    labels = [isic.CLASSES[i % 8] for i in range(96)]
    write_zip(folder / isic.IMAGES_2019, {f"{name}.jpg": jpeg(rng) for name in names})
    truth = pd.DataFrame({"image": names} | {c: [float(label == c) for label in labels] for c in isic.CLASSES})
    truth.assign(UNK=0.0).to_csv(folder / isic.TRUTH_2019, index=False, lineterminator="\r\n")
    lesion = ["" if i >= 88 else f"HAM_{i % 8}_{i // 16}" for i in range(96)]
    metadata = pd.DataFrame(
        {"image": names, "age_approx": "", "anatom_site_general": "", "lesion_id": lesion, "sex": ""}
    )
    metadata.to_csv(folder / isic.METADATA_2019, index=False, lineterminator="\r\n")
    pairs = [isic.canonical(name) for name in names[37:]] + ["ISIC_0999999"]
    write_zip(folder / isic.IMAGES_2018, {f"{name}.jpg": jpeg(rng) for name in pairs})
    mask = np.zeros((48, 64), np.uint8)
    mask[12:36, 16:48] = 255
    write_zip(folder / isic.MASKS_2018, {f"{name}_segmentation.png": png(mask) for name in pairs})
    for part, numbers in {"train": range(64), "validation": range(64, 96)}.items():
        chosen = [i for i in numbers if labels[i] in ("MEL", "NV", "BKL")]
        ids = [isic.canonical(names[i]) for i in chosen]
        superpixels = {f"{name}_superpixels.png": png(mask) for name in ids}
        write_zip(folder / isic.IMAGES_2017[part], {f"{name}.jpg": jpeg(rng) for name in ids} | superpixels)
        scores = {"melanoma": [float(labels[i] == "MEL") for i in chosen]}
        scores["seborrheic_keratosis"] = [float(labels[i] == "BKL") for i in chosen]
        truth = pd.DataFrame({"image_id": ids} | scores)
        truth.to_csv(folder / isic.TRUTH_2017[part], index=False, lineterminator="\r\n")
    later = [f"ISIC_{i:07d}" for i in range(1_000_000, 1_000_024)]
    write_zip(folder / isic.IMAGES_2020, {f"{name}.jpg": jpeg(rng) for name in later})
    lesion = ["" if i >= 20 else f"IL_{i % 8}_{i // 16}" for i in range(24)]
    diagnosis = (*isic.DIAGNOSES, "unknown", "cafe-au-lait macule") * 3
    truth = pd.DataFrame({"image_name": later, "patient_id": "IP_1", "lesion_id": lesion, "diagnosis": diagnosis})
    truth.to_csv(folder / isic.TRUTH_2020, index=False)
    (folder / isic.DUPLICATES_2020).write_text(f"image_name_1,image_name_2\n{later[0]},{later[8]}\n")
    return folder
