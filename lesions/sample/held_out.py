"""The challenges' test sets, drawn: lesions that the training archives have not, and of 2017 some that they have."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lesions.isic import names as isic
from lesions.raw.config import Sample
from lesions.sample.cases import COUNTS, MSK, Case, drawn_patient, shares

IMAGES_2019, UNKNOWN_2019 = 80, 8  # of the test set: of the eight classes; of none
IMAGES_2017 = {"MEL": 6, "NV": 12, "BKL": 6}
PAIRS = {"isic2018_task1_val": 6, "isic2018_task1_test": 18}
FIRST, FIRST_PAIR = 200_000, 210_000  # of the lesions' numbers; drawn numbers of ids follow those of the real test sets
IDS = 34_321


@dataclass(frozen=True)
class HeldOut:
    """A test set: the lesions to draw for it, and its rows: name and label in 2019's terms."""

    cases: list[Case]
    rows: list[tuple[str, str]]


def plan(sample: Sample, known: list[Case], taken: Iterable[str]) -> dict[str, HeldOut]:
    """Return the test sets. known: the lesions of 2019; taken: images that ISIC 2017 trains or validates on.

    As in reality the images of 2017 are in 2019's training set too, and those of 2018 Task 3 in 2019's test set: what
    comes from HAM, of which every third image validates.
    """
    rng = np.random.default_rng([sample.seed, 2018, 3])
    labels = [label for label, n in shares(IMAGES_2019, COUNTS, dict.fromkeys(COUNTS, 4)).items() for _ in range(n)]
    labels += [isic.UNKNOWN] * UNKNOWN_2019
    ids = IDS + np.sort(rng.choice(10_000, len(labels), replace=False))
    cases = []
    for k, (label, number) in enumerate(zip(labels, ids, strict=True)):
        source = "HAM" if k % 2 == 0 and label != isic.UNKNOWN else "BCN"
        cases.append(Case(FIRST + k, label, source, "", drawn_patient(rng, label), (f"ISIC_{number:07d}",)))
    ham = [case for case in cases if case.source == "HAM"]
    found = {"isic2019_test": cases, "isic2018_val": ham[::3], "isic2018_test": [c for c in ham if c not in ham[::3]]}
    number = FIRST_PAIR
    for name, count in PAIRS.items():
        found[name] = [_of_msk(k, str(rng.choice(list(MSK)))) for k in range(number, number + count)]
        number += count
    sets = {name: HeldOut(of, [(case.names[0], case.label) for case in of]) for name, of in found.items()}
    used, rows, new = set(taken), list[tuple[str, str]](), list[Case]()
    for label, count in IMAGES_2017.items():
        of_label = [case for case in known if (case.source, case.label) == ("MSK", label)]
        free = [name for case in of_label for name in case.names if name not in used][:count]
        more = [_of_msk(k, label) for k in range(number, number + count - len(free))]  # a small sample has too few
        number, new = number + len(more), [*new, *more]
        rows += [(name, label) for name in (*free, *(case.names[0] for case in more))]
    return sets | {"isic2017_test": HeldOut(new, rows)}


def _of_msk(number: int, label: str) -> Case:
    return Case(number, label, "MSK", "", ("", "", ""), (f"ISIC_{IDS + number:07d}",))
