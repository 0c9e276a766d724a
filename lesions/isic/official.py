"""The rules of the challenges' classification parts: their classes, their scores and their submission files."""

import numpy as np
import pandas as pd

from lesions.isic import metrics
from lesions.isic.names import AKIEC, CLASSES, HAM_CLASSES, TESTS, UNKNOWN

CLASSIFIED = tuple(name for name in TESTS if "task1" not in name)
HAS_UNKNOWN = "isic2019_test"  # the set that has pictures of none of the eight classes
SUBMITTED_2017 = {"MEL": "melanoma", "BKL": "seborrheic_keratosis"}


def in_terms(test: str, probabilities: pd.DataFrame, unfamiliarity: pd.Series | None = None) -> pd.DataFrame | None:
    """Return probabilities (columns: our classes) in the classes of a test set, or None if they do not fit.

    2018's AKIEC is AK and SCC together; 2017 asks for melanoma and, of who has it, for keratosis (our BKL). 2019's have
    UNK where `unfamiliarity` is given: 1, and all others 0, of a picture where that is above 1.
    """
    if test.startswith("isic2017"):
        wanted: tuple[str, ...] = tuple(c for c in SUBMITTED_2017 if c in probabilities)
        return probabilities[list(wanted)] if "MEL" in wanted else None
    wanted = HAM_CLASSES
    if test.startswith("isic2019"):
        wanted = CLASSES
        if unfamiliarity is not None:
            strange = unfamiliarity.to_numpy(float) > 1
            probabilities = probabilities.mul(~strange, axis=0).assign(**{UNKNOWN: strange.astype(float)})
            wanted = (*CLASSES, UNKNOWN)
    elif {"AK", "SCC"} <= set(probabilities):
        probabilities = probabilities.assign(**{AKIEC: probabilities["AK"] + probabilities["SCC"]})
    return probabilities[list(wanted)] if set(wanted) <= set(probabilities) else None


def scores(test: str, labels: pd.Series, p: pd.DataFrame, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return each official score of a test set as float (R,). `p`: as `in_terms` gives them, an image a row.

    weights: int (N, R): how often each image counts; None: once. Where `p` has no column UNK, images of that label are
    left out, as for a score of eight classes. A class of which no image counts makes a score nan.
    """
    weights = np.ones((len(labels), 1), int) if weights is None else weights
    truth = labels.to_numpy()
    if test.startswith("isic2017"):
        found = {f"{c} auc": metrics.aucs(truth == c, p[c].to_numpy(), weights) for c in p}
        return found | ({"mean auc": np.mean(list(found.values()), axis=0)} if len(found) > 1 else {})
    known = np.isin(truth, p.columns)
    guess = metrics.predicted(p.to_numpy())
    columns = np.array([*p.columns, ""])  # a tie guesses no class
    right = (columns[guess] == truth) & known
    recalls = []
    for label in np.unique(truth[known]):
        of = truth == label
        recalls.append(metrics.ratio((right & of) @ weights, of @ weights, np.nan))
    return {"bma": np.mean(recalls, axis=0)}


def submission(test: str, images: pd.Series, p: pd.DataFrame) -> pd.DataFrame:
    """Return the submission file of a test set: the challenge's columns, in its order."""
    if test.startswith("isic2017"):
        values = p.reindex(columns=list(SUBMITTED_2017), fill_value=0.0).rename(columns=SUBMITTED_2017)
        return values.set_axis(images.to_numpy()).rename_axis("image_id").reset_index()
    if test.startswith("isic2019") and UNKNOWN not in p:
        p = p.assign(**{UNKNOWN: 0.0})
    return p.set_axis(images.to_numpy()).rename_axis("image").reset_index()
