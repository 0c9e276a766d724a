"""lesions/isic/metrics.py against scikit-learn and the official scorer, isic-challenge-scoring."""

import numpy as np
import pandas as pd
import pytest
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore
from isic_challenge_scoring.segmentation import SegmentationScore
from PIL import Image
from sklearn import metrics as sklearn_metrics

from lesions.isic import metrics
from lesions.isic.names import CLASSES


def drawn(seed: int, images: int = 120, ties: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels with every class among them, and probabilities; the first `ties` have two equal highest ones."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(8), rng.integers(0, 8, images - 8)])
    probabilities = rng.dirichlet(np.ones(8), images)
    probabilities[np.arange(images), truth] += 0.2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[:ties] = 0.0
    probabilities[np.arange(ties), truth[:ties]] = 0.5
    probabilities[np.arange(ties), (truth[:ties] + 3) % 8] = 0.5
    return truth, probabilities


def official_bma(folder, truth: np.ndarray, probabilities: np.ndarray) -> float:
    names = [f"ISIC_{i:07d}" for i in range(len(truth))]
    for file, columns in (("truth", np.eye(8)[truth]), ("guess", probabilities)):
        table = pd.DataFrame(columns, columns=list(CLASSES))
        table.insert(0, "image", names)
        table.to_csv(folder / f"{file}.csv", index=False)
    score = ClassificationScore.from_file(
        folder / "truth.csv", folder / "guess.csv", ClassificationMetric.BALANCED_ACCURACY
    )
    return score.overall


@pytest.mark.filterwarnings("ignore")  # the scorer calls deprecated functions of pandas
@pytest.mark.parametrize("ties", [0, 5, 40])
def test_bma_is_the_official_one(tmp_path, ties):
    truth, probabilities = drawn(ties, ties=ties)
    ours = metrics.classification(truth, probabilities)["bma"]
    assert ours == pytest.approx(official_bma(tmp_path, truth, probabilities), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_classification_is_scikit_learns(seed):
    truth, probabilities = drawn(seed)
    found = metrics.classification(truth, probabilities)
    guess = probabilities.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, guess))
    assert found["bma"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(truth, guess))
    assert found["loss"] == pytest.approx(sklearn_metrics.log_loss(truth, probabilities, labels=range(8)))


def test_ties_are_wrong():
    truth, probabilities = drawn(0, images=16, ties=16)
    assert (metrics.predicted(probabilities) == metrics.TIE).all()
    assert metrics.classification(truth, probabilities)["bma"] == 0
    assert metrics.predicted(np.full((1, 8), 1 / 8)).tolist() == [metrics.TIE]


def test_a_class_without_images_is_left_out():
    truth, guess = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    assert metrics.balanced_accuracy(truth, guess) == 0.75


def test_the_loss_of_certain_error_is_finite():
    assert metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-np.log(1e-7))


def test_formulas_by_hand():
    """Two of three pixels of four shared; nothing shared; both masks empty."""
    intersection, union = np.array([2, 0, 0]), np.array([4, 3, 0])
    assert metrics.jaccard(intersection, union).tolist() == [0.5, 0, 1]
    assert metrics.dice(intersection, union).tolist() == [2 / 3, 0, 1]
    assert metrics.thresholded(np.array([0.64, 0.65, 0.9])).tolist() == [0, 0.65, 0.9]


@pytest.mark.filterwarnings("ignore")
def test_segmentation_is_the_official_one(tmp_path):
    """On PNG masks, as the challenge takes them: good and bad ones, an empty pair, and one at the threshold."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :50]
    pairs = []
    for _ in range(20):
        center, radius = rng.uniform(12, 28, 2), rng.uniform(5, 12)
        shift = rng.uniform(-6, 6, 2)
        pairs.append(
            [np.hypot(rows - y, columns - x) < radius for y, x in (center, center + shift)],
        )
    empty, line = np.zeros((40, 50), bool), np.arange(2000).reshape(40, 50)
    pairs += [[empty, empty], [line < 5, empty], [empty, line < 5], [line < 20, line < 13]]  # the last: 13/20 = .65
    for i, pair in enumerate(pairs):
        for folder, mask in zip(("truth", "guess"), pair, strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            name = f"ISIC_{i:07d}{'_segmentation' if folder == 'truth' else ''}.png"
            Image.fromarray(255 * mask.astype(np.uint8)).save(tmp_path / folder / name)
    official = SegmentationScore.from_dir(tmp_path / "truth", tmp_path / "guess")
    intersection = np.array([(a & b).sum() for a, b in pairs])
    union = np.array([(a | b).sum() for a, b in pairs])
    jaccards = metrics.jaccard(intersection, union)
    assert 0 < (jaccards >= 0.65).mean() < 1
    assert jaccards.mean() == pytest.approx(official.macro_average["jaccard"], abs=1e-12)
    assert metrics.thresholded(jaccards).mean() == pytest.approx(official.overall, abs=1e-12)
    assert metrics.dice(intersection, union).mean() == pytest.approx(official.macro_average["dice"], abs=1e-12)


@pytest.mark.parametrize("levels", [3, 1000])
def test_auc_and_roc_are_scikit_learns(levels):
    """With few levels most scores are tied."""
    rng = np.random.default_rng(levels)
    positive, scores = rng.random(200) < 0.3, rng.integers(0, levels, 200) / levels
    assert metrics.auc(positive, scores) == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores))
    fpr, tpr = metrics.roc(positive, scores)
    theirs, hits, _ = sklearn_metrics.roc_curve(positive, scores, drop_intermediate=False)
    assert np.allclose(fpr, theirs) and np.allclose(tpr, hits)
