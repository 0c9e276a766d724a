"""The pictures of stages.compare: published beside ours, on white, in colours that the colour-blind tell apart."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score, roc_curve

from lesions import scorecard
from lesions.scoreboard import Tested, balanced_accuracy

OURS, PUBLISHED, GREY = "#0072B2", "#D55E00", "#777777"  # of Okabe and Ito's palette, as CLASSES_COLORS
CLASS_COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999933")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "legend.frameon": False,
}
LABELS = {"loss": "loss", "accuracy": "accuracy", "bma": "BMA"}
COLUMNS = 4
STATE_COLORS = {
    "reproduced": "#009E73", "outside": "#D55E00", "no interval": "#56B4E9", "not comparable": "#999999",
    scorecard.SAMPLE: "#E69F00", scorecard.OTHER: "#F0E442", scorecard.NOT_RUN: "#DDDDDD",
}  # fmt: skip


def sheet(
    width: float, height: float, title: str, kind: str, rows: int = 1, columns: int = 1
) -> tuple[Figure, np.ndarray]:
    """A figure under a title that says if the data are not the studies'."""
    figure = Figure(figsize=(width, height), layout="constrained")
    loud = {
        scorecard.SAMPLE: "SAMPLE DATA: drawn pictures, not results",
        scorecard.OTHER: "other data than the studies'",
    }
    figure.suptitle(title + (f"\n{loud[kind]}" if kind else ""), fontsize=11, color="#B00020" if kind else "black")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=130, metadata={"Software": None})


def intervals(axis: Axes, rows: pd.DataFrame, y: np.ndarray) -> None:
    """Ours: a dot and its interval, where there is one."""
    have = rows["ours"].notna().to_numpy()
    mine, at = rows[have], y[have]
    axis.hlines(at, mine["low"], mine["high"], color=OURS, lw=2, alpha=0.5)
    axis.plot(mine["ours"], at, "o", color=OURS, ms=6, label="ours, with its interval")


def dumbbell(axis: Axes, rows: pd.DataFrame, title: str, names: bool) -> None:
    """One line a run; rows in the order from top to bottom."""
    y = -np.arange(len(rows), dtype=float)
    both = (rows["ours"].notna() & rows["published"].notna()).to_numpy()
    axis.hlines(y[both], rows["published"][both], rows["ours"][both], color="#CCCCCC", lw=1, zorder=0)
    intervals(axis, rows, y)
    axis.plot(rows["published"], y, "D", mfc="none", mec=PUBLISHED, mew=1.6, ms=8, label="published")
    have = rows["ours"].notna().to_numpy()
    for place, there in zip(y, have, strict=True):
        if not there:
            axis.text(
                0.99,
                place,
                scorecard.NOT_RUN,
                color=GREY,
                ha="right",
                va="center",
                transform=axis.get_yaxis_transform(),
            )
    axis.set(title=title, yticks=y, yticklabels=rows["row"] if names else [], ylim=(y[-1] - 0.6, 0.7))
    if not have.all():  # room for the words
        left, right = axis.get_xlim()
        axis.set_xlim(left, right + 0.3 * (right - left))
    axis.grid(axis="x", color="#EEEEEE")
    axis.set_axisbelow(True)


def table_figure(table: pd.DataFrame, name: str, title: str, kind: str, metrics: tuple[str, ...]) -> Figure:
    """A dumbbell panel a metric, for one of study A's tables."""
    rows = table[(table["study"] == "A") & (table["table"] == name)]
    count = rows["run"].nunique()
    figure, axes = sheet(3.4 * len(metrics) + 1.2, 1.6 + 0.36 * count, title, kind, 1, len(metrics))
    for number, (axis, metric) in enumerate(zip(axes[0], metrics, strict=True)):
        dumbbell(axis, rows[rows["metric"] == metric], LABELS[metric], names=number == 0)
        if metric != "loss":
            axis.set_xlim(-0.02, 1.02)
    legend(figure, axes[0][-1])
    return figure


def counts_figure(table: pd.DataFrame, kind: str) -> Figure:
    """What became of the published numbers: a bar a study."""
    counts = scorecard.counts(table)
    figure, ((axis,),) = sheet(9, 3.2, "Published numbers of the five studies, and what became of them here", kind)
    left, y = np.zeros(len(counts)), -np.arange(len(counts))
    for state in scorecard.STATES:
        numbers = counts[state].to_numpy()
        if not numbers.any():
            continue
        axis.barh(y, numbers, left=left, color=STATE_COLORS[state], edgecolor="white", label=state)
        for place, number, start in zip(y, numbers, left, strict=True):
            if number:
                axis.text(start + number / 2, place, str(number), ha="center", va="center", fontsize=8)
        left += numbers
    axis.set(yticks=y, yticklabels=[f"study {study}" for study in counts.index], xlabel="published numbers")
    axis.spines["left"].set_visible(False)
    axis.tick_params(left=False)
    legend(figure, axis)
    return figure


def means_figure(table: pd.DataFrame, kind: str, level: float) -> Figure:
    """Study C's six tables: the mean over seeds, published and ours."""
    title = f"Study C: means over seeds, published and ours ({100 * level:g} % intervals by seed)"
    figure, axes = sheet(12, 5.4, title, kind, 2, 3)
    panels = (
        ("Table 4.1", "accuracy", "segmentation"), ("Table 4.2", "accuracy", "colour"),
        ("Table 4.3", "auroc", "colour"), ("Table 4.4", "accuracy", "ResNet-50"),
        ("Table 4.5", "accuracy", "EfficientNet-b0"), ("Table 4.6", "auroc", "EfficientNet-b0"),
    )  # fmt: skip
    for axis, (name, metric, what) in zip(axes.flat, panels, strict=True):
        rows = table[(table["study"] == "C") & (table["table"] == name) & (table["metric"] == f"{metric} mean")]
        dumbbell(axis, rows, f"{name}: {what}, {'AUROC' if metric == 'auroc' else metric}", names=True)
    legend(figure, axes[0, 0])
    return figure


def areas_figure(table: pd.DataFrame, kind: str, level: float) -> Figure:
    """Study E's Table 3: the macro AUC of each model on each part."""
    title = f"Study E, Table 3: macro AUC, published and ours ({100 * level:g} % intervals by lesion)"
    rows = table[(table["study"] == "E") & (table["table"] == "Table 3")]
    figure, axes = sheet(11, 4.2, title, kind, 1, 3)
    for number, (axis, split) in enumerate(zip(axes[0], ("train", "val", "test"), strict=True)):
        dumbbell(axis, rows[rows["metric"] == f"{split} auc"], split, names=number == 0)
    legend(figure, axes[0, 0])
    return figure


def legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=len(unique))


def folds_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Table 6.4: small marks for the folds, large ones for the mean."""
    rows = table[(table["study"] == "A") & (table["table"] == "Table 6.4")]
    names = rows.drop_duplicates("run").set_index("run")["row"]
    figure, ((axis,),) = sheet(8, 1.6 + 0.62 * len(names), "Cross-validation: BMA of each fold and their mean", kind)
    for place, run in enumerate(names.index):
        of = rows[rows["run"] == run]
        small, mean = of[of["metric"] != "mean"], of[of["metric"] == "mean"]
        y = -float(place)
        axis.plot(
            small["published"], [y + 0.16] * len(small), "D", mfc="none", mec=PUBLISHED, ms=4, label="published, folds"
        )
        axis.plot(mean["published"], [y + 0.16], "D", color=PUBLISHED, ms=8, label="published, mean")
        if of["ours"].isna().all():
            axis.text(
                0.99, y - 0.16, "not run", color=GREY, ha="right", va="center", transform=axis.get_yaxis_transform()
            )
            continue
        axis.plot(small["ours"], [y - 0.16] * len(small), "o", mfc="none", mec=OURS, ms=4, label="ours, folds")
        axis.hlines([y - 0.16], mean["low"], mean["high"], color=OURS, lw=2, alpha=0.5)
        axis.plot(mean["ours"], [y - 0.16], "o", color=OURS, ms=8, label="ours, mean with its interval")
    axis.set(
        yticks=-np.arange(len(names)), yticklabels=names, xlim=(-0.02, 1.02), xlabel="BMA", ylim=(0.5 - len(names), 0.5)
    )
    axis.grid(axis="x", color="#EEEEEE")
    axis.set_axisbelow(True)
    legend(figure, axis)
    return figure


def panels(count: int, title: str, kind: str, size: float) -> tuple[Figure, list[Axes]]:
    """A grid with one square panel for each of `count`."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure, axes = sheet(size * columns, size * rows + 0.7, title, kind, rows, columns)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, list(axes.flat[:count])


def confusion_figure(tested: dict[str, Tested], kind: str) -> Figure:
    """Each row is a true class and sums to 100 %; ties, which are no class, are missing from it."""
    title = "Confusion on the test part: % of each true class (rows) called each class (columns)"
    figure, axes = panels(len(tested), title, kind, 3.1)
    for axis, (name, one) in zip(axes, tested.items(), strict=True):
        matrix, count = one.confusion(), len(one.classes)
        share = 100 * matrix[:, :count] / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                color = "white" if value > 55 else "black"
                axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
        labels = [label if "+" not in label else "rare 4" for label in one.classes]
        axis.set_xticks(range(count), labels, rotation=90, fontsize=7)
        axis.set_yticks(range(count), labels, fontsize=7)
        axis.set_title(f"{name}\nBMA {balanced_accuracy(matrix.astype(float)):.3f}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(True)
    return figure


def roc_figure(tested: dict[str, Tested], kind: str) -> Figure:
    """One class against the rest, with the area under each curve."""
    figure, axes = panels(len(tested), "ROC on the test part: each class against the rest", kind, 3.3)
    for axis, (name, one) in zip(axes, tested.items(), strict=True):
        areas = []
        for number, label in enumerate(one.classes):
            truth = one.truth == number
            if truth.all() or not truth.any():
                continue
            fpr, tpr, _ = roc_curve(truth, one.probabilities[:, number])
            areas.append(roc_auc_score(truth, one.probabilities[:, number]))
            shown = label if "+" not in label else "rare 4"
            axis.plot(fpr, tpr, color=CLASS_COLORS[number], lw=1.2, label=f"{shown} {areas[-1]:.2f}")
        axis.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
        mean = f"mean AUC {np.mean(areas):.3f}" if areas else "no curve"
        axis.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axis.set_title(f"{name}\n{mean}", fontsize=9)
        axis.legend(fontsize=6.5, loc="lower right", handlelength=1, labelspacing=0.2, borderaxespad=0.1)
    return figure


def leaderboard_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Both challenges: the ten best, the paper's numbers, and ours with intervals."""
    figure, axes = sheet(12, 7, "Leaderboards, and the numbers that cannot stand in them", kind, 1, 2)
    unet = table[table["run"].isin(["unet", "d_unet34"]) & table["metric"].isin(["jaccard", "jaccard_thresholded"])]
    names, scores = (
        {"unet": "A: U-Net", "d_unet34": "D: Unet34"},
        {"jaccard": "mean", "jaccard_thresholded": "thresholded"},
    )
    unet = unet.assign(row=unet["run"].map(names) + ", " + unet["metric"].map(scores)).sort_values("row", kind="stable")
    means = table[table["table"] == "Table 6.5"]
    for axis, (challenge, own, note) in zip(
        axes[0],
        (
            (
                "ISIC 2019 Task 1",
                means,
                "BMA; the challenge: 9 classes, its test set\nbelow: 8 classes, cross-validation",
            ),
            ("ISIC 2018 Task 1", unet, "Jaccard, thresholded unless it says mean\nbelow: own test part"),
        ),
        strict=True,
    ):
        teams = table[(table["study"] == "leaderboard") & (table["table"] == challenge)]
        own = own[own["ours"].notna() | own["published"].notna()]
        y = -np.arange(len(teams) + len(own), dtype=float)
        axis.plot(teams["published"], y[: len(teams)], "s", color=GREY, ms=6, label="leaderboard, the ten best")
        below = y[len(teams) :] - 0.5
        axis.plot(own["published"], below, "D", mfc="none", mec=PUBLISHED, mew=1.6, ms=8, label="the paper's")
        intervals(axis, own, below)
        axis.axhline(-len(teams) + 0.25, color="#BBBBBB", lw=1, ls="--")
        axis.set(
            title=challenge, xlabel=note, yticks=[*y[: len(teams)], *below], yticklabels=[*teams["row"], *own["row"]]
        )
        lowest = np.nanmin([*teams["published"], *own["published"], *own["low"]])
        axis.set_xlim(np.floor(20 * lowest) / 20 - 0.05, 1.0)
        axis.grid(axis="x", color="#EEEEEE")
        axis.set_axisbelow(True)
    legend(figure, axes[0][0])
    return figure


def reports_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Figure 6.1 of study B: precision, recall and F1 by colour; a line of panels a run."""
    rows = table[(table["study"] == "B") & (table["table"] == "Figure 6.1")]
    values = rows.set_index(["run", "metric"])
    runs = [run for run in rows["run"].unique() if not run.endswith("shuffled") and run != "difference"]
    labels = [m.removesuffix(" f1") for m in rows["metric"].unique() if m.endswith(" f1")]
    scores = ("precision", "recall", "f1")
    colors = matplotlib.colormaps["Blues"].with_extremes(bad="white")
    title = "Study B's base models: classification reports, published and ours"
    figure, axes = sheet(9.5, 3.1 * len(runs) + 0.8, title, kind, len(runs), 3)
    for line, run in zip(axes, runs, strict=True):
        name = rows.loc[rows["run"] == run, "row"].iloc[0]
        for axis, source, column, whose in zip(
            line,
            (run, run, f"{run} shuffled"),
            ("published", "ours", "ours"),
            (f"{name}: published", "ours", "ours beside shuffled labels"),
            strict=True,
        ):
            cells = values.loc[source][column] if source in values.index else pd.Series(dtype=float)
            matrix = [[cells.get(f"{label} {score}", np.nan) for score in scores] for label in labels]
            matrix = np.array([*matrix, [np.nan, np.nan, cells.get("accuracy", np.nan)]], dtype=float)
            axis.imshow(np.ma.masked_invalid(matrix), cmap=colors, vmin=0, vmax=1, aspect="auto")
            for (row, place), value in np.ndenumerate(matrix):
                if not np.isnan(value):
                    color = "white" if value > 0.55 else "black"
                    axis.text(place, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=8)
            if np.isnan(matrix).all():
                missing = "not published" if column == "published" else "not run"
                axis.text(1, len(labels) / 2, missing, ha="center", va="center", color=GREY)
            axis.set_xticks(range(3), ["precision", "recall", "F1"])
            axis.set_yticks(range(len(matrix)), [*labels, "accuracy"] if axis is line[0] else [""] * len(matrix))
            axis.axhline(len(labels) - 2.5, color="black", lw=0.8)
            axis.set_title(whose, fontsize=9)
            axis.tick_params(length=0)
    return figure


def draw(
    folder: Path, table: pd.DataFrame, trained: dict[str, Tested], bases: dict[str, Tested], kinds: dict[str, str],
    level: float,
) -> None:  # fmt: skip
    """Every picture into `folder`. `bases`: study B's runs, whose confusion joins study A's classifiers'."""
    every, interval, kind = trained | bases, f"{100 * level:g} % intervals by lesion", kinds["A"]
    shown = ("loss", "accuracy", "bma")
    with style.context(STYLE, after_reset=True):
        save(counts_figure(table, kind), folder / "scorecard.png")
        title = f"Table 6.1: standard classification, published and ours ({interval})"
        save(table_figure(table, "Table 6.1", title, kind, shown), folder / "standard.png")
        title = f"Table 6.2: balanced classes, after the 5/8 rule ({interval})"
        save(table_figure(table, "Table 6.2", title, kind, shown), folder / "balanced.png")
        save(folds_figure(table, kind), folder / "cross_validation.png")
        save(leaderboard_figure(table, kind), folder / "leaderboards.png")
        save(reports_figure(table, kinds["B"]), folder / "reports.png")
        save(means_figure(table, kinds["C"], level), folder / "preprocessing.png")
        save(areas_figure(table, kinds["E"], level), folder / "schedules.png")
        if every:
            save(confusion_figure(every, kind), folder / "confusion.png")
            save(roc_figure(every, kind), folder / "roc.png")
