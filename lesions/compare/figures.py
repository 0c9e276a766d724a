"""Draw published numbers beside ours, on white, in colours that the colour-blind tell apart."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lesions.compare import scorecard
from lesions.compare.measured import Tested, balanced_accuracy
from lesions.compare.scorecard import NOT_RUN
from lesions.isic import metrics
from lesions.isic.names import MERGED

OURS, PUBLISHED, GREY = "#0072B2", "#D55E00", "#777777"  # of Okabe and Ito's palette, as CLASS_COLORS
CLASS_COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#999933")
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 10, "axes.titleweight": "bold", "legend.frameon": False, "axes.axisbelow": True,
    "grid.color": "#EEEEEE",
}  # fmt: skip
STATE_COLORS = {
    "reproduced": "#009E73", "outside": "#D55E00", "no interval": "#56B4E9", "not comparable": "#999999",
    scorecard.SAMPLE: "#E69F00", scorecard.OTHER: "#F0E442", NOT_RUN: "#DDDDDD",
}  # fmt: skip
LOUD = {
    scorecard.SAMPLE: "\nSAMPLE DATA: drawn pictures, not results",
    scorecard.OTHER: "\nother data than the studies'",
    "": "",
}
MEANS = (  # of study C: the number of the table, its metric, and what it is about
    (1, "accuracy", "segmentation, accuracy"), (2, "accuracy", "colour, accuracy"), (3, "auroc", "colour, AUROC"),
    (4, "accuracy", "ResNet-50, accuracy"), (5, "accuracy", "b0, accuracy"),
    (6, "auroc", "b0, AUROC"),
)  # fmt: skip

Sheet = tuple[Figure, list[Axes]]


def sheet(width: float, height: float, title: str, kind: str, rows: int = 1, columns: int = 1) -> Sheet:
    """Return a figure of so many inches, under a title that says if the data are not the studies', and its panels."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(title + LOUD[kind], fontsize=11, color="#B00020" if kind else "black")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def squares(count: int, title: str, kind: str, size: float) -> Sheet:
    """Return a grid with one square panel for each of `count`."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure, axes = sheet(size * columns, size * rows + 0.7, title, kind, rows, columns)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]


def legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=len(unique))


def dumbbell(axis: Axes, title: str, rows: pd.DataFrame, named: bool = True) -> np.ndarray:
    """Draw a line a row from top to bottom: published, ours and its interval; return their heights."""
    y, not_run = -np.arange(len(rows), dtype=float), rows["comparable"].eq(NOT_RUN).to_numpy()
    axis.plot(rows[["published", "ours"]].T, [y, y], color="#CCCCCC", lw=1, zorder=0)
    axis.plot(rows[["low", "high"]].T, [y, y], color=OURS, lw=2, alpha=0.5)
    axis.plot(rows["ours"], y, "o", color=OURS, ms=6, label="ours, with its interval")
    axis.plot(rows["published"], y, "D", mfc="none", mec=PUBLISHED, mew=1.6, ms=8, label="published")
    for place in y[not_run]:
        axis.text(0.99, place, NOT_RUN, color=GREY, ha="right", va="center", transform=axis.get_yaxis_transform())
    axis.set(title=title, yticks=y, yticklabels=rows["row"] if named else [], ylim=(y[-1] - 0.6, 0.7))
    axis.margins(x=0.45 if not_run.any() else 0.05)  # room for the words
    axis.grid(axis="x")
    return y


def dumbbells(
    table: pd.DataFrame, study: str, panels: list[tuple[str, str, str]], title: str, kind: str, lines: int = 1
) -> Figure:
    """Draw panels (table, metric, title) of one study; those of one table in one line have its names once."""
    rows = [table[(table[["study", "table", "metric"]] == [study, *panel[:2]]).all(axis=1)] for panel in panels]
    height = lines * (1.6 + 0.36 * max(map(len, rows)))
    figure, axes = sheet(12, height, title, kind, lines, len(panels) // lines)
    for number, (axis, panel, of) in enumerate(zip(axes, panels, rows, strict=True)):
        dumbbell(axis, panel[2], of, named=number == 0 or lines > 1)
    legend(figure, axes[0])
    return figure


def counts_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Draw what became of the published numbers: a bar a study."""
    counts = scorecard.counts(table).drop(columns="published").rename(index="study {}".format)
    figure, (axis,) = sheet(9, 3.2, "Published numbers of the five studies, and what became of them here", kind)
    counts.loc[::-1, counts.any()].plot.barh(
        ax=axis, stacked=True, width=0.8, color=STATE_COLORS, edgecolor="white", legend=False,
        xlabel="published numbers", ylabel="",
    )  # fmt: skip
    for bars in axis.containers:
        assert isinstance(bars, BarContainer)
        axis.bar_label(bars, fmt=lambda number: f"{number:g}" if number else "", label_type="center", fontsize=8)
    legend(figure, axis)
    return figure


def folds_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Draw Table 6.4: large marks for the mean, small ones for the folds."""
    rows = table[(table["study"] == "A") & (table["table"] == "Table 6.4")]
    means = rows[rows["metric"] == "mean"]
    title = "Cross-validation: BMA of each fold and their mean"
    figure, (axis,) = sheet(8, 1.6 + 0.62 * len(means), title, kind)
    heights = dict(zip(means["run"], dumbbell(axis, "", means), strict=True))
    folds = rows[(rows["metric"] != "mean") & rows["run"].isin(means["run"])]
    for who, color, mark, up in (("published", PUBLISHED, "D", 0.2), ("ours", OURS, "o", -0.2)):
        axis.plot(folds[who], folds["run"].map(heights) + up, mark, mfc="none", mec=color, ms=4, label=f"{who}, folds")
    axis.set(xlim=(-0.02, 1.02), xlabel="BMA")
    legend(figure, axis)
    return figure


def short(label: str) -> str:
    return "rare 4" if label == MERGED else label


def confusion_figure(tested: dict[str, Tested], kind: str) -> Figure:
    """Draw confusions: each row is a true class and sums to 100 %; ties, which are no class, are missing from it."""
    title = "Confusion on the test part: % of each true class (rows) called each class (columns)"
    figure, axes = squares(len(tested), title, kind, 3.1)
    for axis, (name, one) in zip(axes, tested.items(), strict=True):
        matrix, count = one.confusion(), len(one.classes)
        share = matrix[:, :count] / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        heat(axis, share, [f"{100 * value:.0f}" if value >= 0.005 else "" for value in share.flat], 7)
        labels = [short(label) for label in one.classes]
        axis.set_xticks(range(count), labels, rotation=90, fontsize=7)
        axis.set_yticks(range(count), labels, fontsize=7)
        axis.set_title(f"{name}\nBMA {balanced_accuracy(matrix.astype(float)):.3f}", fontsize=9)
        axis.spines[["top", "right"]].set_visible(True)
    return figure


def heat(axis: Axes, values: np.ndarray, texts: list[str], size: int) -> None:
    """Draw values in 0..1 as blue squares with their texts; nan is white."""
    axis.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=1)
    for ((row, column), value), text in zip(np.ndenumerate(values), texts, strict=True):
        color = "white" if value > 0.55 else "black"
        axis.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def roc_figure(tested: dict[str, Tested], kind: str) -> Figure:
    """Draw one class against the rest, with the area under each curve."""
    figure, axes = squares(len(tested), "ROC on the test part: each class against the rest", kind, 3.3)
    for axis, (name, one) in zip(axes, tested.items(), strict=True):
        areas = []
        for number, label in enumerate(one.classes):
            truth, scores = one.truth == number, one.probabilities[:, number]
            if 0 < truth.mean() < 1:
                areas.append(metrics.auc(truth, scores))
                of = f"{short(label)} {areas[-1]:.2f}"
                axis.plot(*metrics.roc(truth, scores), color=CLASS_COLORS[number % len(CLASS_COLORS)], lw=1.2, label=of)
        axis.plot([0, 1], [0, 1], ":", color=GREY, lw=1)
        mean = f"mean AUC {np.mean(areas):.3f}" if areas else "no curve"
        axis.set(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axis.set_title(f"{name}\n{mean}", fontsize=9)
        axis.legend(fontsize=6.5, loc="lower right", handlelength=1, labelspacing=0.2, borderaxespad=0.1)
    return figure


def curves_figure(study: str, histories: dict[str, pd.DataFrame], kind: str, what: str = "loss") -> Figure:
    """Draw loss, accuracy or the rate (lr) of each classifier by epoch, of training and validation, a line a seed."""
    lines = {f"train_{what}": ("training", GREY), f"val_{what}": ("validation", OURS)}
    title = f"{study}: {what} in training and in validation, by epoch"
    if what == "lr":
        lines, title = {"lr": ("mean of an epoch's steps", OURS)}, f"{study}: learning rate, by epoch"
    figure, axes = squares(len(histories), title, kind, 2.7)
    for axis, (name, history) in zip(axes, histories.items(), strict=True):
        for _, one in history.groupby("seed"):
            for column, (label, color) in lines.items():
                axis.plot(one["epoch"], one[column], "o-", color=color, ms=3, lw=1, label=label)
        axis.set_title(name, fontsize=9)
        highest = history[list(lines)].max(axis=None)
        axis.set(xlim=(0.5, history["epoch"].max() + 0.5))
        axis.set(yscale="log") if what == "lr" else axis.set(ylim=(0, 1.1 * highest))
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    legend(figure, axes[0])
    return figure


def classes_figure(tables: dict[str, pd.DataFrame], kind: str) -> Figure:
    """Draw how many images of each class a set has (studies A, Table 5.1, and E, Figure 3)."""
    figure, axes = squares(len(tables), "Images of each class", kind, 3.2)
    for axis, (name, table) in zip(axes, tables.items(), strict=True):
        counts = table["label"].value_counts().sort_values()
        axis.bar_label(axis.barh(counts.index, counts, color=OURS), fmt="{:,.0f}", padding=2, fontsize=8)
        axis.set_title(f"{name}: {counts.sum():,}", fontsize=9)
        axis.set(xlim=(0, 1.25 * counts.max()), xticks=[])
    return figure


def leaderboard_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Draw both challenges: the ten best, the paper's numbers, and ours with intervals."""
    figure, axes = sheet(12, 7, "Leaderboards, and the numbers that cannot stand in them", kind, 1, 2)
    names = {"unet": "A: U-Net", "d_unet34": "D: Unet34"}
    scores = {"jaccard": "mean", "jaccard_thresholded": "thresholded"}
    unet = table[table["run"].isin(list(names)) & table["metric"].isin(list(scores))]
    unet = unet.assign(row=unet["run"].map(names) + ", " + unet["metric"].map(scores)).sort_values("row", kind="stable")
    for axis, challenge, own, note in (
        (axes[0], "ISIC 2019 Task 1", table[table["table"] == "Table 6.5"],
         "BMA; the challenge: 9 classes, its test set\nbelow: 8 classes, cross-validation"),
        (axes[1], "ISIC 2018 Task 1", unet, "Jaccard, thresholded unless it says mean\nbelow: own test part"),
    ):  # fmt: skip
        teams = table[(table["study"] == "leaderboard") & (table["table"] == challenge)]
        rows = pd.concat([teams.assign(published=np.nan), own])
        y = dumbbell(axis, challenge, rows)[: len(teams)]
        axis.plot(teams["published"], y, "s", color=GREY, ms=6, label="leaderboard, the ten best")
        axis.axhline(y[-1] - 0.5, color="#BBBBBB", lw=1, ls="--")
        axis.set(xlabel=note)
    legend(figure, axes[0])
    return figure


def reports_figure(table: pd.DataFrame, kind: str) -> Figure:
    """Draw Figure 6.1 of study B: precision, recall and F1 by class; a line of panels a model."""
    models = scorecard.reports(table)
    title = "Study B's base models: classification reports, published and ours"
    figure, axes = sheet(9.5, 3.1 * len(models) + 0.8, title, kind, len(models), 3)
    panels = [(f"{name}: {whose}", report) for name, of in models.items() for whose, report in of.items()]
    for number, (axis, (whose, report)) in enumerate(zip(axes, panels, strict=True)):
        values = report.to_numpy(float)
        heat(axis, values, ["" if np.isnan(value) else f"{value:.2f}" for value in values.flat], 8)
        axis.set_aspect("auto")
        if np.isnan(values).all():
            axis.text(1, len(values) / 2, "none", ha="center", va="center", color=GREY)
        axis.set_xticks(range(3), scorecard.SCORES)
        axis.set_yticks(range(len(values)), [""] * len(values) if number % 3 else report.index)
        axis.set_title(whose, fontsize=9)
        axis.tick_params(length=0)
    return figure


def draw(
    folder: Path, table: pd.DataFrame, tables: dict[str, pd.DataFrame], tested: dict[str, Tested],
    histories: dict[str, dict[str, pd.DataFrame]], kinds: dict[str, str], confidence: float,
) -> None:  # fmt: skip
    """Draw every picture into `folder`. `tables`: the sorted sets; `tested`: of studies A and B and of one's own sets;
    `histories`: study or set -> run -> losses and rate (study B: accuracies) by epoch."""
    level, kind = f"{100 * confidence:g} % intervals", kinds["A"]
    standard, balanced = (
        [(f"Table 6.{n}", score.lower(), score) for score in ("loss", "accuracy", "BMA")] for n in (1, 2)
    )
    means = [(f"Table 4.{n}", f"{metric} mean", f"Table 4.{n}: {what}") for n, metric, what in MEANS]
    parts = [("Table 3", f"{part} auc", part) for part in ("train", "val", "test")]
    of_standard = f"Table 6.1: standard classification, published and ours ({level} by lesion)"
    of_balanced = f"Table 6.2: balanced classes, after the 5/8 rule ({level} by lesion)"
    of_means = f"Study C: means over seeds, published and ours ({level} by seed)"
    of_parts = f"Study E, Table 3: macro AUC, published and ours ({level} by lesion)"
    with style.context(STYLE, after_reset=True):
        figures = {
            "scorecard": counts_figure(table, kind),
            "standard": dumbbells(table, "A", standard, of_standard, kind),
            "balanced": dumbbells(table, "A", balanced, of_balanced, kind),
            "cross_validation": folds_figure(table, kind),
            "leaderboards": leaderboard_figure(table, kind),
            "reports": reports_figure(table, kinds["B"]),
            "preprocessing": dumbbells(table, "C", means, of_means, kinds["C"], lines=2),
            "schedules": dumbbells(table, "E", parts, of_parts, kinds["E"]),
        }
        figures |= {
            f"losses_{name.lower()}": curves_figure(f"Study {name}" if name in kinds else name, r, kinds.get(name, ""))
            for name, r in histories.items()
            if r
        }
        figures |= {
            f"rates_{name.lower()}": curves_figure(f"Study {name}", histories[name], kinds[name], "lr")
            for name in "DE"
            if histories[name]
        }
        if tables:
            figures["classes"] = classes_figure(tables, kind)
        if histories["B"]:
            figures["accuracies_b"] = curves_figure("Study B", histories["B"], kinds["B"], "accuracy")
        if tested:
            figures |= {"confusion": confusion_figure(tested, kind), "roc": roc_figure(tested, kind)}
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=130, metadata={"Software": None})
