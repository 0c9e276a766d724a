"""Name the official ISIC files and classes, and their oddities."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
Label = Literal["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
Generated = Literal["none", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]  # the class whose images are added
SETS = ("isic2019", "isic2018", "isic2017", "merged")  # of the studies; isic2018 has masks, the others classes
RARE = ("AK", "DF", "VASC", "SCC")  # merged into one class in study A's balanced setting
MERGED = "+".join(RARE)
BALANCED_CLASSES = ("MEL", "NV", "BCC", "BKL", MERGED)
AKIEC = "AKIEC"  # ISIC 2018 Task 3 has this one class for what 2019 calls AK and SCC
HAM_CLASSES = ("MEL", "NV", "BCC", AKIEC, "BKL", "DF", "VASC")
UNKNOWN = "UNK"  # in 2019's test set: none of the eight
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
Test = Literal[
    "isic2017_test", "isic2018_val", "isic2018_test", "isic2019_test", "isic2018_task1_val", "isic2018_task1_test"
]  # the challenges' validation and test sets; isic2018_…: Task 3, unless the name says Task 1
TESTS: dict[str, tuple[str, str]] = {  # their archives of images; their ground truth, which has masks in Task 1
    "isic2017_test": ("2017/ISIC-2017_Test_v2_Data.zip", "2017/ISIC-2017_Test_v2_Part3_GroundTruth.csv"),
    "isic2019_test": ("2019/ISIC_2019_Test_Input.zip", "2019/ISIC_2019_Test_GroundTruth.csv"),
} | {
    name: (f"2018/ISIC2018_{inputs}_{part}_Input.zip", f"2018/ISIC2018_{task}_{part}_GroundTruth.zip")
    for name, inputs, task, part in (
        ("isic2018_val", "Task3", "Task3", "Validation"),
        ("isic2018_test", "Task3", "Task3", "Test"),
        ("isic2018_task1_val", "Task1-2", "Task1", "Validation"),
        ("isic2018_task1_test", "Task1-2", "Task1", "Test"),
    )
}
FOLDERS = {Path(IMAGES_2020).name: "train"}  # archive -> the folder in it, if that has another name
FILES = {  # of each set; merged has the images of the others, and of 2020 where params.yaml asks for them
    "isic2019": (IMAGES_2019, TRUTH_2019, METADATA_2019),
    "isic2018": (IMAGES_2018, MASKS_2018),
    "isic2017": (*IMAGES_2017.values(), *TRUTH_2017.values()),
}
FILES_2020 = (IMAGES_2020, TRUTH_2020, DUPLICATES_2020)


def files(isic2020: bool, tests: Iterable[str] = (), sets: Iterable[str] = SETS) -> tuple[str, ...]:
    """Return all official files of sets and test sets, with those of 2020 if params.yaml asks for them (data)."""
    of_sets = (file for name in sets for file in FILES.get(name, ()))
    return (*of_sets, *FILES_2020 * isic2020, *(file for test in tests for file in TESTS[test]))


OFFICIAL = frozenset(Path(file).name for file in files(True, TESTS))  # names of files


def canonical(name: str) -> str:
    """Return the image's id without the `_downsampled` at the end of 2,074 of the 25,331 names."""
    return name.removesuffix("_downsampled")
