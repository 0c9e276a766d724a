"""The official ISIC files: their names, classes and oddities."""

CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
RARE = ("AK", "DF", "VASC", "SCC")  # merged into one class in study A's balanced setting
MERGED = "+".join(RARE)
BALANCED_CLASSES = ("MEL", "NV", "BCC", "BKL", MERGED)
AKIEC = "AKIEC"  # ISIC 2018 Task 3's one class of what 2019 calls AK and SCC
HAM_CLASSES = ("MEL", "NV", "BCC", AKIEC, "BKL", "DF", "VASC")
MELANOMA_CLASSES = ("OTHER", "MEL")
TWINS = {"ISIC_0069013": "ISIC_0067980"}  # one photograph under two names

# What the studies read, below a source's base: <year>/<file>.
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
FILES = (
    IMAGES_2019, TRUTH_2019, METADATA_2019, IMAGES_2018, MASKS_2018, *IMAGES_2017.values(), *TRUTH_2017.values()
)  # fmt: skip


def canonical(name: str) -> str:
    """The image's id without the `_downsampled` that 2,074 of the 25,331 names carry."""
    return name.removesuffix("_downsampled")
