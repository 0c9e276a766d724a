"""Name the official ISIC files and classes, and their oddities."""

from pathlib import Path
from typing import Literal

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
Label = Literal["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
Generated = Literal["none", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]  # the class whose images are added
Set = Literal["isic2019", "isic2017", "merged"]  # that are classified
RARE = ("AK", "DF", "VASC", "SCC")  # merged into one class in study A's balanced setting
MERGED = "+".join(RARE)
BALANCED_CLASSES = ("MEL", "NV", "BCC", "BKL", MERGED)
AKIEC = "AKIEC"  # ISIC 2018 Task 3 has this one class for what 2019 calls AK and SCC
HAM_CLASSES = ("MEL", "NV", "BCC", AKIEC, "BKL", "DF", "VASC")
MELANOMA_CLASSES = ("OTHER", "MEL")
# The diagnoses of ISIC 2020 that mean one of our classes, as the SIIM-ISIC winners (study E's models) read them.
DIAGNOSES = {"melanoma": "MEL", "nevus": "NV"} | dict.fromkeys(
    ("seborrheic keratosis", "lichenoid keratosis", "solar lentigo", "lentigo NOS"), "BKL"
)
TWINS = {"ISIC_0069013": "ISIC_0067980"}  # one photograph under two names

# The files that the studies read, by their path in a source: <year>/<file>.
IMAGES_2019 = "2019/ISIC_2019_Training_Input.zip"
TRUTH_2019 = "2019/ISIC_2019_Training_GroundTruth.csv"
METADATA_2019 = "2019/ISIC_2019_Training_Metadata.csv"
IMAGES_2018 = "2018/ISIC2018_Task1-2_Training_Input.zip"
MASKS_2018 = "2018/ISIC2018_Task1_Training_GroundTruth.zip"
IMAGES_2017 = {"train": "2017/ISIC-2017_Training_Data.zip", "validation": "2017/ISIC-2017_Validation_Data.zip"}
TRUTH_2017 = {
    "train": "2017/ISIC-2017_Training_Part3_GroundTruth.csv",
    "validation": "2017/ISIC-2017_Validation_Part3_GroundTruth.csv",
}
IMAGES_2020 = "2020/ISIC_2020_Training_JPEG.zip"
TRUTH_2020 = "2020/ISIC_2020_Training_GroundTruth_v2.csv"
DUPLICATES_2020 = "2020/ISIC_2020_Training_Duplicates.csv"
FOLDERS = {Path(IMAGES_2020).name: "train"}  # archive -> the folder in it, if that has another name
FILES = (
    IMAGES_2019, TRUTH_2019, METADATA_2019, IMAGES_2018, MASKS_2018, *IMAGES_2017.values(), *TRUTH_2017.values()
)  # fmt: skip
FILES_2020 = (IMAGES_2020, TRUTH_2020, DUPLICATES_2020)


def files(isic2020: bool) -> tuple[str, ...]:
    """Return all files of a source, without or with those of 2020 (params.yaml: data.isic2020)."""
    return (*FILES, *FILES_2020) if isic2020 else FILES


def canonical(name: str) -> str:
    """Return the image's id without the `_downsampled` at the end of 2,074 of the 25,331 names."""
    return name.removesuffix("_downsampled")
