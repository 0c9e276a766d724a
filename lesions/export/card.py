"""Say in one file what a served model is: what it learnt from, how good and how well calibrated it is, its licence.

No date, no commit and no path of a machine is in it, so that it has the same bytes on every run.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesions.core.errors import InputError
from lesions.core.files import digest, write_text
from lesions.isic import metrics
from lesions.predict import calibration
from lesions.raw.config import Official, Own

FILE = "card.json"
CONFIDENCE, RESAMPLES = 0.95, 1000  # of bootstrapped intervals
NC, CC0 = "CC-BY-NC-4.0", "CC0-1.0"
LICENCES = {"isic2019": NC, "merged": NC, "isic2017": CC0, "isic2018": CC0}  # of the images; isic2018: Task 1
TERMS = {NC: "not for commercial use; name the sources", CC0: "no condition; naming the sources is good practice"}
ISIC_2017 = "ISIC 2017: International Skin Imaging Collaboration; Codella et al., arXiv:1710.05006"
ISIC_2018 = "ISIC 2018: International Skin Imaging Collaboration; Codella et al., arXiv:1902.03368"
HAM = (
    "HAM10000: © ViDIR Group, Department of Dermatology, Medical University of Vienna; Tschandl et al., "
    "doi:10.1038/sdata.2018.161"
)
ISIC_2019 = (
    HAM,
    "BCN20000: © Department of Dermatology, Hospital Clínic de Barcelona; Combalia et al., arXiv:1908.02288",
    "MSK: © Anonymous; Codella et al., arXiv:1710.05006",
)
ISIC_2020 = "ISIC 2020: © ISDIS, doi:10.34970/2020-ds01; Rotemberg et al., doi:10.1038/s41597-021-00815-z"
OWN = "of a set of one's own: whoever owns its pictures says what may be done with what learnt from them"
SAMPLE = "drawn pictures: of no use for photographs"
NOT_FOR = (
    "No medical device: not for diagnosis, treatment or triage, nor to tell anyone that a lesion is harmless.",
    "Not for photographs that are not dermoscopic: clinical pictures, wide fields, scans.",
    "Not for diagnoses outside its classes, which it cannot name and gives one of its classes.",
    "Not tested by skin type, age or camera; light skin makes nearly all of its training images.",
)
NOT_FOR_OWN = (NOT_FOR[0], "Not for pictures of other kinds than those it was trained on.", NOT_FOR[2])
NOT_FOR_MASKS = (*NOT_FOR[:2], "Not for more than one lesion in a picture, or none.", NOT_FOR[3])


def source(told: str) -> dict[str, Any]:
    """Return the card's data: `source` of data.source, where a folder or an address of one's own is not told."""
    if told == "sample":
        return {"source": "sample", "sample": True, "warning": SAMPLE}
    official = "isic" if told == "isic" else "archives of one's own, laid out as the official ones"
    return {"source": official, "sample": False}


def rights(name: str, of: Official | Own, sample: bool, isic2020: bool) -> dict[str, Any]:
    """Return licence, terms and attribution of what learnt from the images of a set, which data.sets has as `of`."""
    if sample:
        return {"licence": "Apache-2.0", "terms": SAMPLE, "attribution": []}
    if isinstance(of, Own):
        return {"licence": of.licence, "terms": OWN, "attribution": list(of.attribution)}
    sources = {"isic2017": (ISIC_2017,), "isic2018": (ISIC_2018, HAM), "isic2019": ISIC_2019}.get(name)
    sources = sources or (*ISIC_2019, ISIC_2017, *(ISIC_2020,) * isic2020)
    return {"licence": LICENCES[name], "terms": TERMS[LICENCES[name]], "attribution": list(sources)}


def resampled(groups: Sequence | pd.Series) -> np.ndarray:
    """Return float (N, RESAMPLES): how often a bootstrap sample of whole groups (lesions) has each image."""
    codes, found = pd.factorize(pd.Series(groups))
    even = np.full(len(found), 1 / len(found))
    return np.random.default_rng(0).multinomial(len(found), even, size=RESAMPLES).T[codes].astype(float)


def with_interval(value: float, drawn: np.ndarray) -> dict[str, float]:
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def mean(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return the mean of float (N,) with its interval; weights (N, R) of `resampled`."""
    return with_interval(values.mean(), values @ weights / weights.sum(axis=0))


def classified(truth: np.ndarray, p: np.ndarray, lesions: Sequence | pd.Series) -> dict[str, dict[str, float]]:
    """Return bma, auc (mean over classes) and accuracy of true classes (N,) and probabilities (N, C), each with an
    interval that is bootstrapped by lesion."""
    weights, right = resampled(lesions), (metrics.predicted(p) == truth).astype(float)
    classes, once = np.unique(truth), np.ones((len(truth), 1))

    def bma(weights: np.ndarray) -> np.ndarray:
        of = [(right[truth == c] @ weights[truth == c], weights[truth == c].sum(axis=0)) for c in classes]
        return np.nanmean([metrics.ratio(above, below, np.nan) for above, below in of], axis=0)

    def auc(weights: np.ndarray) -> np.ndarray:
        return np.nanmean([metrics.aucs(truth == c, p[:, c], weights) for c in classes], axis=0)

    scores = {name: with_interval(of(once)[0], of(weights)) for name, of in (("bma", bma), ("auc", auc))}
    return scores | {"accuracy": mean(right, weights)}


def confusion(truth: np.ndarray, p: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many images of each class (outer key) have which likeliest class (inner key)."""
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, p.argmax(axis=1)), 1)
    return {c: dict(zip(classes, map(int, row), strict=True)) for c, row in zip(classes, counts, strict=True)}


def calibrated(
    fitted: calibration.Calibration, classes: Sequence[str], truth: np.ndarray, p: np.ndarray
) -> dict[str, Any]:
    """Return what calibrates the probabilities, and the expected calibration error before and after on these images."""
    return {
        "formula": "calibrated = softmax(log(max(p, 1e-7)) / temperature + bias); balanced ∝ calibrated / shares",
        "temperature": fitted.temperature,
        "bias": dict(zip(classes, map(float, fitted.bias), strict=True)),
        "shares": dict(zip(classes, map(float, fitted.shares), strict=True)),
        "expected_calibration_error": {
            "before": calibration.ece(truth, p),
            "after": calibration.ece(truth, fitted.calibrated(p)),
        },
    }


def hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file that a card stands beside."""
    return {path.name: digest(path) for path in sorted(folder.iterdir()) if path.name != FILE}


def write(folder: Path, card: dict[str, Any]) -> None:
    """Write the card, its keys sorted, numbers to six digits, with the hashes of the files that lie in `folder`."""
    rounded = json.loads(json.dumps(card), parse_float=lambda number: round(float(number), 6))
    content = rounded | {"sha256": hashes(folder)}
    write_text(folder / FILE, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """Read a card. Raises InputError where there is none, or for files that are not those it names."""
    path = folder / FILE
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a card ({error}); run python -m stages.export") from None
    if card.get("sha256") != hashes(folder):
        raise InputError(f"{folder}: its files are not those that {FILE} names; run python -m stages.export")
    return card
