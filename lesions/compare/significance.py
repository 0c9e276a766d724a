"""Test whether a difference is more than chance: of classifiers on the same images, of choices over the same seeds.

`pairs` and `seeds` give rows, which `corrected` makes one tidy table: metrics/significance.csv.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from lesions.compare import intervals
from lesions.compare.measured import RUNS, Tested, accuracy, balanced_accuracy

COLUMNS = ["family", "first", "second", "metric", "test", "n", "difference", "low", "high", "p", "p_holm", "note"]
RESAMPLES = 10_000  # so that the smallest p, 2/10,001, survives Holm's factor
MCNEMAR, BOOTSTRAP, STUDENT, WILCOXON, WELCH = "McNemar", "bootstrap", "paired t", "Wilcoxon", "Welch, as published"
NOT_RUN, TOO_FEW = "not run", "too few seeds"
INTERVAL = ("difference", "low", "high")  # second − first
# Study C's experiments: a run and the baseline of its experiment.
BASELINES = {
    **dict.fromkeys(("c_masked_grey", "c_masked_flat"), "c_plain"),
    **dict.fromkeys(("c_max_rgb", "c_shades", "c_graham"), "c_base"),
    "c_resnet_arl": "c_resnet_base",
    **dict.fromkeys(("c_b0_no_se", "c_b0_arl_no_se", "c_b0_arl"), "c_b0"),
}
STAND_INS = {"c_plain": "c_base", "c_resnet_base": "c_base"}  # the same network, where the settings have one baseline


def corrected(lines: list[dict]) -> pd.DataFrame:
    """Return the rows with p_holm: Holm's correction over those of the same family, metric and test."""
    table = pd.DataFrame(lines, columns=COLUMNS).fillna({"note": ""})
    for _, rows in table.groupby(["family", "metric", "test"]).groups.items():
        table.loc[rows, "p_holm"] = holm(table.loc[rows, "p"].to_numpy(float))
    return table


def holm(p: np.ndarray) -> np.ndarray:
    """Return Holm's (1979) step-down correction of float (m,): p₍ᵢ₎·(m − i + 1), not below the one before, at most 1.

    nan is no test: it stays nan and does not count.
    """
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]  # nan sorts last
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return adjusted


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """Return, of bool (N,) and bool (N,), how many are true in one only, first or second, and the exact two-sided p.

    Under the null hypothesis a discordant image favours either with probability 1/2 (McNemar 1947; binomial).
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    p = stats.binomtest(only_first, discordant, 0.5).pvalue if discordant else 1.0
    return only_first, only_second, float(p)


def bootstrap_p(differences: np.ndarray) -> float:
    """Return the two-sided p of differences (R,): twice the smaller share beyond 0, with 1 more in both counts."""
    differences = differences[~np.isnan(differences)]
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (1 + beyond) / (1 + len(differences))))


def resampled(members: list[Tested]) -> tuple[np.ndarray, np.ndarray]:
    """Return float (RESAMPLES, K) twice: accuracy and BMA of K classifiers, over the same lesions."""
    side, cells = len(members[0].classes), np.concatenate([member.cells() for member in members], axis=1)
    matrices = intervals.resample(cells, members[0].lesions, RESAMPLES).reshape(-1, len(members), side, side + 1)
    return accuracy(matrices), balanced_accuracy(matrices)


def pairs(study: str, found: dict[str, Tested], confidence: float) -> list[dict]:
    """Test every two classifiers on the same images: McNemar's exact test of accuracy, a paired bootstrap of the BMA.

    What was tested on the same images is a family. Both intervals are percentiles of the bootstrap over lesions.
    """
    families: dict[tuple, dict[str, Tested]] = {}
    for name, one in found.items():
        families.setdefault((one.classes, tuple(one.images)), {})[name] = one
    lines = []
    for (classes, images), members in families.items():
        if len(members) == 1:
            continue
        accuracies, balanced = resampled(list(members.values()))
        right = [one.guess == one.truth for one in members.values()]
        bma = [balanced_accuracy(one.confusion().astype(float)) for one in members.values()]
        names = list(members)
        family = f"{study}, {len(classes)} classes, {len(images)} images with {names[0]}"
        for i, j in combinations(range(len(names)), 2):
            shared = {"family": family, "first": names[i], "second": names[j], "n": len(images)}
            only_first, only_second, p = mcnemar(right[i], right[j])
            note = f"right in the first only: {only_first}, in the second only: {only_second}"
            drawn = accuracies[:, j] - accuracies[:, i]
            difference = right[j].mean() - right[i].mean()
            change = dict(zip(INTERVAL, intervals.around(difference, drawn, confidence), strict=True))
            lines.append(shared | change | {"metric": "accuracy", "test": MCNEMAR, "p": p, "note": note})
            drawn = balanced[:, j] - balanced[:, i]
            change = dict(zip(INTERVAL, intervals.around(bma[j] - bma[i], drawn, confidence), strict=True))
            lines.append(shared | change | {"metric": "bma", "test": BOOTSTRAP, "p": bootstrap_p(drawn)})
    return lines


def paired_t(differences: np.ndarray) -> float:
    """Return p of Student's test on float (n,). Where all are equal there is no spread: 1 if they are 0, else 0."""
    if np.ptp(differences) == 0:
        return 0.0 if differences.any() else 1.0
    return float(stats.ttest_1samp(differences, 0).pvalue)


def wilcoxon(differences: np.ndarray) -> float:
    """Return p of the signed-rank test on float (n,), zeros left out; 1 if all are 0.

    Where ranks are tied scipy takes all sign changes of up to 13 differences, beyond that the normal approximation.
    """
    return float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0


def over_seeds(first: pd.Series, second: pd.Series, confidence: float) -> list[dict]:
    """Return both tests of a run against its baseline. first, second: float by seed; none was not run."""
    differences = (second - first).dropna().to_numpy().round(9)  # shares of few images tie, but for the last bits
    n = len(differences)
    if n < intervals.FEWEST:
        note = TOO_FEW if len(first) and len(second) else NOT_RUN
        return [{"test": test, "n": n, "note": note} for test in (STUDENT, WILCOXON)]
    low, high = intervals.student(differences, confidence)
    shared = {"n": n, "difference": differences.mean(), "low": low, "high": high}
    return [shared | {"test": name, "p": p(differences)} for name, p in ((STUDENT, paired_t), (WILCOXON, wilcoxon))]


def seeds(values: dict[str, dict[str, pd.Series]], numbers: pd.DataFrame, confidence: float) -> list[dict]:
    """Test each run of BASELINES against its baseline or, where that was not run, its stand-in: paired by seed, and as
    printed, by Welch's test between the means and stds of RUNS runs each.

    values: metric (accuracy, auroc) -> run -> float by seed. numbers: published/numbers.csv.
    """
    numbers = numbers[(numbers["study"] == "C") & (numbers["value"] != "")]
    printed = {(line.run, line.metric): float(line.value) for line in numbers.itertuples()}
    lines, none = [], pd.Series(dtype=float)
    for second, first in BASELINES.items():
        for metric, runs in values.items():
            shared = {"family": "C", "second": second, "metric": metric}
            own = first if first in runs or STAND_INS.get(first) not in runs else STAND_INS[first]
            tests = over_seeds(runs.get(own, none), runs.get(second, none), confidence)
            lines += [shared | {"first": own} | test for test in tests]
            keys = [(run, f"{metric} {score}") for run in (second, first) for score in ("mean", "std")]
            if set(keys) <= set(printed):
                mean, std, base_mean, base_std = (printed[key] for key in keys)
                p = stats.ttest_ind_from_stats(mean, std, RUNS, base_mean, base_std, RUNS, equal_var=False).pvalue
                welch = {"first": first, "test": WELCH, "n": RUNS, "difference": mean - base_mean, "p": float(p)}
                lines.append(shared | welch)
    return lines
