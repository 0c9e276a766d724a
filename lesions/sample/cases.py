"""The lesions of the embedded sample, before any is drawn: classes, sources, names, patients."""

from dataclasses import dataclass, replace

import numpy as np

from lesions.core.errors import InputError
from lesions.isic import names as isic
from lesions.raw.config import Sample

COUNTS = {"MEL": 4522, "NV": 12875, "BCC": 3323, "AK": 867, "BKL": 2624, "DF": 239, "VASC": 253, "SCC": 628}  # of 2019
FLOORS = {name: 28 if name == "AK" else 14 for name in isic.CLASSES}
LESIONS = 7  # of each class, at least: five folds by lesion have each class on both sides
MSK = {"MEL": 552, "NV": 1964, "BKL": 387}  # images of 2019 that are neither BCN's nor HAM's: the ISIC 2018 Task 1 ones
# Images of 2020 by diagnosis; of the unknown ones, which no study reads, a tenth.
DIAGNOSES = {"unknown": 2712, "nevus": 5193, "melanoma": 584, "seborrheic keratosis": 135, "lentigo NOS": 44}
DIAGNOSES |= {"lichenoid keratosis": 37, "solar lentigo": 7, "atypical melanocytic proliferation": 1}
HAM_LESIONS = 3  # of each class, at least: study D's training, validation and test part
FROM_BCN = {"MEL": 0.72, "NV": 0.39, "BCC": 0.85, "AK": 0.85, "BKL": 0.51, "DF": 0.52, "VASC": 0.44, "SCC": 0.69}
UNGROUPED, DOWNSAMPLED = 2084 / 25331, 2074 / 25331  # images without lesion_id; names with `_downsampled`
IDS = {"MSK": range(0, 16073), "HAM": range(24306, 34321), "BCN": range(53454, 73255)}
FIRST_2020 = 100_000  # of the ids of 2020, and of its lesions' numbers
AGES = {"MEL": 61, "NV": 45, "BCC": 66, "AK": 67, "BKL": 64, "DF": 52, "VASC": 53, "SCC": 71}
SITES = {"anterior torso": 0.28, "lower extremity": 0.20, "head/neck": 0.18, "upper extremity": 0.115}
SITES |= {"posterior torso": 0.11, "": 0.095, "palms/soles": 0.016, "oral/genital": 0.002, "lateral torso": 0.002}
GROUP_SIZES = (0.52, 0.23, 0.13, 0.06, 0.03, 0.03)  # of lesions with 1..6 images
LARGEST_GROUP = 9


@dataclass(frozen=True)
class Case:
    """A lesion: its number in the sample, class, source (BCN, HAM or MSK), lesion_id or blank, and its patient's data.

    `names` are its images' names; `patient` is age_approx, anatom_site_general and sex as in the CSV, blanks included.
    A few of source BCN have a HAM lesion_id, see `_enough_ham`. In 2020 the class follows from the `diagnosis`; what
    has no class is drawn as a naevus.
    """

    number: int
    label: str
    source: str
    lesion_id: str
    patient: tuple[str, str, str]
    names: tuple[str, ...]
    diagnosis: str = ""


def shares(total: int, weights: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """Deal `total` images out to the classes in proportion to `weights`, none below its floor; the sum is exact."""
    fixed: dict[str, int] = {}
    while True:
        free = {name: weight for name, weight in weights.items() if name not in fixed}
        left = total - sum(fixed.values())
        exact = {name: left * weight / sum(free.values()) for name, weight in free.items()}
        low = {name: floors[name] for name, value in exact.items() if value < floors[name]}
        if not low:
            break
        fixed |= low
    given = {name: int(value) for name, value in exact.items()}
    for name in sorted(exact, key=lambda n: given[n] - exact[n])[: left - sum(given.values())]:
        given[name] += 1
    return {name: fixed.get(name, given.get(name, 0)) for name in weights}


def group_sizes(rng: np.random.Generator, images: int, least: int) -> list[int]:
    """Return how many of `images` each lesion has: 1 to 6, mean about 2, for at least `least` lesions."""
    sizes: list[int] = []
    while images > sum(sizes):
        drawn = 1 + int(rng.choice(len(GROUP_SIZES), p=GROUP_SIZES))
        sizes.append(min(drawn, images - sum(sizes)))
    while len(sizes) < least and max(sizes) > 1:
        largest = sizes.pop(int(np.argmax(sizes)))
        sizes += [largest // 2, largest - largest // 2]
    return sizes


def plan(sample: Sample) -> list[Case]:
    """Return all lesions of the sample, `sample.images` names in all, last the one whose picture is in 2018 only."""
    rng = np.random.default_rng([sample.seed, 2019])
    images = shares(sample.images, COUNTS, FLOORS)
    msk_total = max(sample.pairs - 1 + sample.images // 80, sample.images * sum(MSK.values()) // sum(COUNTS.values()))
    msk = shares(msk_total, MSK, dict.fromkeys(MSK, 0))
    if any(msk[label] > images[label] for label in msk):
        raise InputError(f"data.sample.pairs: {sample.pairs} are too many for {sample.images} images; try a quarter")
    loners = shares(round(UNGROUPED * sample.images), MSK, dict.fromkeys(MSK, 0))
    groups: list[tuple[str, str, bool, int]] = []  # class, source, with a lesion_id, images
    for label in isic.CLASSES:
        alone = min(loners.get(label, 0), msk.get(label, 0))
        known = msk.get(label, 0) - alone
        rest = images[label] - known - alone
        large = [LARGEST_GROUP] if label == "NV" and rest > 2 * LARGEST_GROUP else []
        groups += [(label, "MSK", False, 1)] * alone
        groups += [(label, "MSK", True, size) for size in group_sizes(rng, known, 0)]
        for size in large + group_sizes(rng, rest - sum(large), LESIONS):
            groups.append((label, "BCN" if rng.random() < FROM_BCN[label] else "HAM", True, size))
    return _enough_ham(_cases(rng, sample, [*groups, ("NV", "MSK", False, 1)]))


def _cases(rng: np.random.Generator, sample: Sample, groups: list[tuple[str, str, bool, int]]) -> list[Case]:
    """Draw names, lesion_ids and patients for `groups`; the last group's name is never `_downsampled`."""
    twins = {int(name[-7:]) for pair in isic.TWINS.items() for name in pair}
    free = {source: iter(rng.permutation([i for i in ids if i not in twins]).tolist()) for source, ids in IDS.items()}
    lesion_ids = iter(rng.permutation(9000).tolist())
    names = [[f"ISIC_{next(free[source]):07d}" for _ in range(size)] for _, source, _, size in groups]
    msk = [name for k, group in enumerate(names[:-1]) if groups[k][1] == "MSK" for name in group]
    down = set(rng.choice(msk, min(round(DOWNSAMPLED * sample.images), len(msk)), replace=False).tolist())
    cases = []
    for number, ((label, source, known, _), group) in enumerate(zip(groups, names, strict=True)):
        lesion_id = f"{'MSK4' if source == 'MSK' else source}_{next(lesion_ids):07d}" if known else ""
        full = tuple(f"{name}_downsampled" if name in down else name for name in group)
        cases.append(Case(number, label, source, lesion_id, drawn_patient(rng, label), full))
    return cases


def _enough_ham(cases: list[Case]) -> list[Case]:
    """See to HAM_LESIONS of each class: where too few were drawn, the first of BCN's take a HAM lesion_id."""
    for label in isic.CLASSES:
        short = HAM_LESIONS - sum(case.source == "HAM" and case.label == label for case in cases)
        for case in [case for case in cases if case.source == "BCN" and case.label == label][: max(short, 0)]:
            cases[case.number] = replace(case, lesion_id=case.lesion_id.replace("BCN", "HAM"))
    return cases


def drawn_patient(rng: np.random.Generator, label: str) -> tuple[str, str, str]:
    """Draw age_approx (a multiple of 5), anatom_site_general and sex, as in the CSV; some are blank."""
    age = str(int(np.clip(5 * round(rng.normal(AGES.get(label, 50), 15) / 5), 0, 85)))
    site = str(rng.choice(list(SITES), p=np.array(list(SITES.values())) / sum(SITES.values())))
    sex = str(rng.choice(["male", "female"], p=[0.53, 0.47]))
    return (age if rng.random() > 0.017 else ""), site, (sex if rng.random() > 0.015 else "")


def plan_2020(sample: Sample) -> tuple[list[Case], str]:
    """Return the lesions of 2020, a tenth of `sample.images` names in all; the second part, one of them, is none's.

    It is the duplicate of the first naevus's first picture.
    """
    rng = np.random.default_rng([sample.seed, 2020])
    ids = FIRST_2020 + rng.choice(9_000_000, sample.images // 10, replace=False)
    *names, duplicate = (f"ISIC_{i:07d}" for i in ids)
    cases: list[Case] = []
    for diagnosis, images in shares(len(names), DIAGNOSES, dict.fromkeys(DIAGNOSES, 1)).items():
        label = isic.DIAGNOSES.get(diagnosis, "NV")
        for size in group_sizes(rng, images, 0):
            number, (group, names) = FIRST_2020 + len(cases), (names[:size], names[size:])
            patient = drawn_patient(rng, label)
            cases.append(Case(number, label, "HAM", f"IL_{number:07d}", patient, tuple(group), diagnosis))
    return cases, duplicate
