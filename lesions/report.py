"""metrics/compare.md: the scorecard's counts, the documents' tables with ours beside, and the tests."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from lesions import scorecard, significance
from lesions.scorecard import NOT_RUN

SAMPLE = "SAMPLE DATA: drawn pictures. These numbers only prove that the pipeline runs."
PAIRS = (
    "On the same images. Accuracy: McNemar's exact test on the images that only one of the two gets right; it takes "
    "images of one lesion for independent, the interval does not. BMA: bootstrap over lesions, 10,000 resamples, the "
    "same lesions drawn for both. In brackets: after Holm's correction over all pairs on these images. One training of "
    "each: intervals and p tell of other test images, not of another training.\n"
)
ONE_EACH = (
    "One training without them and one with them: the intervals tell of other test images, not of another training, "
    "which can change single classes by more than the images do.\n"
)
SEEDS = (
    "Ours: paired by seed (Student's t, and Wilcoxon's signed ranks); under three seeds nothing is tested. Published: "
    "Welch's t from the printed means and deviations of ten runs. In brackets: after Holm's correction over the runs "
    "of all four experiments.\n"
)
TIES = "An equal highest probability for two classes counts as wrong, as in the official scoring."
VGG16 = (
    "VGG16's BMA of 0.125 is exactly 1/8, and its accuracy of 0.508 the share of nevi (12,875 of 25,331): it put every "
    "image into one class, a training that never left its start, which accuracy alone would hide; "
    "0.125 in Table 6.2 is 5/8 of 1/5, the same failure."
)


def number(value: float, low: float = np.nan, high: float = np.nan, digits: int = 3) -> str:
    text = "" if np.isnan(value) else f"{value:.{digits}f}"
    return text if np.isnan(low) else f"{text} [{low:.{digits}f}, {high:.{digits}f}]".strip()


def chance(p: float, holm: float) -> str:
    """A p value and, in brackets, the one after Holm's correction."""
    return " (".join("< 0.001" if value < 0.001 else f"{value:.3f}" for value in (p, holm)) + ")"


def pair_lines(tests: pd.DataFrame, study: str) -> tuple[list[str], list[list[str]]]:
    """Header and lines, one for two classifiers: both differences with their intervals, both p with Holm's."""
    rows = tests[tests["family"].str.startswith(f"{study},")]
    header = ["second − first", "images", "accuracy", "p, McNemar (Holm)", "BMA", "p, bootstrap (Holm)"]
    lines = []
    for (_, first, second), of in rows.groupby(["family", "first", "second"], sort=False):
        line = [f"{second} − {first}", str(of["n"].iloc[0])]
        for one in (of[of["metric"] == metric].iloc[0] for metric in ("accuracy", "bma")):
            line += [number(one["difference"], one["low"], one["high"]), chance(one["p"], one["p_holm"])]
        lines.append(line)
    return header, lines


def seed_lines(tests: pd.DataFrame, rows: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Header and lines, one for a run against its baseline under a metric. `rows`: run -> its name in the paper."""
    header = [
        "second − first",
        "metric",
        "seeds",
        "ours",
        "p, paired t (Holm)",
        "p, Wilcoxon (Holm)",
        "published",
        "p, Welch (Holm)",
    ]
    lines = []
    for (second, metric), of in tests[tests["family"] == "C"].groupby(["second", "metric"], sort=False):
        by_test = {one["test"]: one for _, one in of.iterrows()}
        one = by_test[significance.STUDENT]
        first = one["first"]  # a stand-in where the paper's baseline was not run; `published` is against that
        ours = [one["note"]] * 3
        if not one["note"]:
            signed = by_test[significance.WILCOXON]
            ours = [number(one["difference"], one["low"], one["high"], 4)]
            ours += [chance(test["p"], test["p_holm"]) for test in (one, signed)]
        printed = by_test.get(significance.WELCH)
        welch = ["–", "–"]
        if printed is not None:
            welch = [number(printed["difference"], digits=4), chance(printed["p"], printed["p_holm"])]
        name = f"{rows.get(second, second)} − {rows.get(first, first)}"
        lines.append([f"{name} ({second} − {first})", metric, str(one["n"]), *ours, *welch])
    return header, lines


def grid(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A GitHub table: the first column to the left, the rest to the right."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


class Report:
    """`kinds`: as scorecard.data_kinds; `collapsed`: runs of one class only; `tests`: of lesions.significance."""

    def __init__(
        self, table: pd.DataFrame, published: Path, kinds: dict[str, str], confidence: float, collapsed: list[str],
        tests: pd.DataFrame,
    ) -> None:  # fmt: skip
        self.table, self.kinds, self.tests = table, kinds, tests
        self.level, self.collapsed = f"{100 * confidence:g} %", collapsed
        self.boards = pd.read_csv(published / "leaderboards.csv", keep_default_na=False)
        self.why = pd.read_csv(published / "reasons.csv").set_index("reason")["why"]
        self.used: list[str] = []

    def rows(self, study: str, table: str) -> pd.DataFrame:
        return self.table[(self.table["study"] == study) & (self.table["table"] == table)]

    def caption(self, text: str, study: str = "A") -> str:
        kind = self.kinds[study]
        loud = f" **({SAMPLE})**" if kind == scorecard.SAMPLE else f" ({kind})" if kind else ""
        return f"\n**{text}**{loud}\n"

    def mark(self, reason: str) -> str:
        if not reason:
            return ""
        if reason not in self.used:
            self.used.append(reason)
        return f" [^{reason}]"

    def pair(self, cell: pd.Series | None, digits: int = 3) -> tuple[str, str]:
        """Published and ours, marked: a footnote where they do not compare, ✓ where published lies in our interval."""
        if cell is None:
            return "–", "–"
        published = number(cell["published"], cell["published_low"], cell["published_high"], digits) or "–"
        ours = number(cell["ours"], cell["low"], cell["high"], digits)
        ours = ours or (NOT_RUN if cell["comparable"] == NOT_RUN else "–")
        return published + self.mark(cell["reason"]), ours + (" ✓" if cell["inside"] == "yes" else "")

    def side_by_side(self, study: str, table: str, metrics: dict[str, str]) -> str:
        """One line a row of the paper; published and ours of each metric."""
        rows = self.rows(study, table)
        cells = {(r["row"], r["metric"]): r for _, r in rows.iterrows()}
        given = set(rows.loc[rows["published"].notna(), "metric"])  # no column for what nobody published
        sides = {metric: ((0, 1) if metric in given else (1,)) for metric in metrics}
        header = [f"{metrics[m]}, {('published', 'ours')[side]}" for m in metrics for side in sides[m]]
        lines = []
        for name in rows["row"].unique():
            pairs = {metric: self.pair(cells.get((name, metric))) for metric in metrics}
            lines.append([name, *(pairs[m][side] for m in metrics for side in sides[m])])
        return grid(["", *header], lines)

    def one_above_the_other(self, study: str, table: str, metrics: dict[str, str], digits: int = 3) -> str:
        """Two lines a row of the paper, published and ours; a column a metric."""
        rows, lines = self.rows(study, table), []
        for _, cells in rows[rows["metric"].isin(list(metrics))].groupby("row", sort=False):
            pairs = {c["metric"]: self.pair(c, digits) for _, c in cells.iterrows()}
            for who, title in enumerate(("published", "ours")):
                lines.append([cells["row"].iloc[0], title, *(pairs.get(m, ("–", "–"))[who] for m in metrics)])
        return grid(["", "", *metrics.values()], lines)

    def folds(self) -> str:
        metrics = list(self.rows("A", "Table 6.4")["metric"].unique())
        metrics.sort(key=lambda metric: (metric == "mean", metric))
        return self.one_above_the_other("A", "Table 6.4", {m: m.replace("fold_", "fold ") for m in metrics})

    def over_seeds(self, table: str, metric: str) -> str:
        """One of study C's tables."""
        columns = {"mean": "mean", "std": "std", "q25": "25 %", "q50": "50 %", "q75": "75 %", "max": "max"}
        return self.one_above_the_other("C", table, {f"{metric} {c}": title for c, title in columns.items()}, digits=4)

    def counted(self) -> str:
        """The scorecard: what became of the published numbers."""
        counts = scorecard.counts(self.table)
        counts = counts.loc[:, (counts > 0).any() | counts.columns.isin(["published", "reproduced", NOT_RUN])]
        total = counts.sum()
        lines = [[f"{study}: {scorecard.STUDIES[study]}", *line] for study, line in counts.iterrows()]
        return grid(["study", *counts.columns], [*lines, ["all", *total]])

    def solutions(self, challenge: str) -> str:
        """The rows that the paper adds below its own models."""
        rows = self.boards[(self.boards["challenge"] == challenge) & (self.boards["entry"] != "")]
        return grid(
            ["solution", "team", "published"],
            [[r.entry, r.team, number(r.value) + self.mark(r.reason)] for r in rows.itertuples()],
        )

    def leaderboard(self, challenge: str, ours: pd.DataFrame) -> str:
        """The ten best and ours, sorted; a place in brackets is where our number would stand if it were comparable."""
        board = self.boards[self.boards["challenge"] == challenge]
        lines = [(r.value, str(r.place), f"{r.team}{self.mark(r.reason)}", number(r.value)) for r in board.itertuples()]
        for _, row in ours.dropna(subset="ours").iterrows():
            place = 1 + int((board["value"] > row["ours"]).sum())
            place = f"({place})" if place <= len(board) else f"(below {len(board)})"
            place = place if board["place"].astype(str).iloc[0] else ""
            lines.append((row["ours"], place, f"**ours: {row['row']}**", number(row["ours"], row["low"], row["high"])))
        lines.sort(key=lambda line: -line[0])
        return grid(["", "place", "score"], [[team, place, score] for _, place, team, score in lines])

    def reports(self) -> str:
        """Figure 6.1 of study B: precision / recall / F1 of each class, the paper's and ours."""
        rows = self.rows("B", "Figure 6.1")
        runs = [run for run in rows["run"].unique() if not run.endswith("shuffled") and run != "difference"]
        cells = {(r["run"], r["metric"]): r for _, r in rows.iterrows()}
        names = rows.drop_duplicates("run").set_index("run")["row"]
        lines, header = [], [""]
        for run in runs:
            published = rows.loc[rows["run"] == run, "published"].notna().any()
            header += [f"{names[run]}: published{self.mark('shuffled' if published else '')}", "ours", "ours, shuffled"]

        def triple(run: str, label: str, column: str) -> str:
            keys = ["accuracy"] if label == "accuracy" else [f"{label} {m}" for m in ("precision", "recall", "f1")]
            found = [cells[run, key][column] if (run, key) in cells else np.nan for key in keys]
            if np.isnan(found).all():
                return "–" if column == "published" else NOT_RUN
            return " / ".join(f"{value:.2f}" for value in found)

        labels = list(dict.fromkeys(m.rpartition(" ")[0] or m for m in rows["metric"] if m != "bma"))
        for label in labels:
            line = [label]
            for run in runs:
                line += [triple(run, label, "published"), triple(run, label, "ours")]
                line += [triple(f"{run} shuffled", label, "ours")]
            lines.append(line)
        return grid(header, lines)

    def text(self, head: str) -> str:
        """`head`: what the numbers were made from."""
        standard = {"loss": "loss", "accuracy": "accuracy", "bma": "BMA"}
        balanced = {**standard, "bma5": "5-class BMA"}
        means, unet = self.rows("A", "Table 6.5"), self.rows("A", "Table 6.6")
        best = pd.concat([unet, self.rows("D", "Section II-E")])
        best = best[best["run"].isin(["unet", "d_unet34"]) & (best["metric"] == "jaccard_thresholded")]
        masks = {"jaccard": "mean Jaccard", "jaccard_thresholded": "thresholded Jaccard", "dice": "Dice"}
        four = {f"{s} auc {k}": f"{s}, {k}" for s in ("train", "val", "test") for k in ("mean", "sd")}
        parts = ["# Published and ours\n"]
        if self.kinds["A"] == scorecard.SAMPLE:
            parts.append(f"> **{SAMPLE}**\n")
        parts += [
            f"{head}\n",
            f"[low, high]: our {self.level} interval (bootstrap over lesions, 1,000 resamples, where nothing else is "
            f"said). ✓: the published number lies in it. Footnotes: why two numbers do not compare. {TIES} "
            "The studies do not say that they split by lesion; we do, which makes the test harder.\n",
            "## Scorecard",
            self.caption("Published numbers, by study"), self.counted(),
            "Reproduced: in our interval; outside: not in it; no interval: ours is there, but has none (a deviation or "
            "a maximum over seeds, the support of a class). Not comparable: the footnotes say why. A wide one holds "
            "much: look at it before calling a number reproduced.\n",
            f"## Study A: {scorecard.STUDIES['A']}",
            self.caption("Table 6.1: standard classification"), self.side_by_side("A", "Table 6.1", standard),
            VGG16 + (f" Here, one class only: {', '.join(self.collapsed)}." if self.collapsed else "") + "\n",
            self.caption("Table 6.2: balanced classes, accuracy and BMA after the 5/8 rule"),
            self.side_by_side("A", "Table 6.2", balanced),
            "The published accuracies equal the BMAs, so the rule is in both; three losses are those of Table 6.1.\n",
            self.caption("Table 6.3: accuracy in cross-validation; p ± z·√(p(1 − p)/n), and bootstrapped by lesion"),
            self.side_by_side("A", "Table 6.3", {"accuracy": "accuracy", "accuracy_by_lesion": "by lesion"}),
            "With n = 25,331 the formula gives AlexNet ±0.0059 (printed: ±0.0058) but ResNet101 ±0.0054 (printed: "
            "±0.0082); no one n gives all five.\n",
            self.caption("Table 6.4: BMA in cross-validation"), self.folds(),
            self.caption("Table 6.5: ISIC 2019"), self.side_by_side("A", "Table 6.5", {"bma": "BMA"}),
            self.solutions("ISIC 2019 Task 1"),
            self.caption("Table 6.6: segmentation, ISIC 2018 Task 1 (bootstrap over images)"),
            self.side_by_side("A", "Table 6.6", masks),
            self.solutions("ISIC 2018 Task 1"),
            f"The paper sets its mean Jaccard beside thresholded ones.{self.mark('mean')}\n",
            self.caption("Not in the paper: every checkpoint of every classifier"),
            self.side_by_side_ours("checkpoints", standard),
            self.caption("Not in the paper: is one classifier better than another?"),
            self.tests_or_none(*pair_lines(self.tests, "A")), PAIRS,
            f"## Study B: {scorecard.STUDIES['B']}",
            self.caption("Chapter 5: accuracy", "B"), self.accuracies(),
            self.caption("Figure 6.1: precision / recall / F1", "B"), self.reports(),
            "Shuffled: what our predictions give on average beside labels in random order, as the published reports "
            "did; compare these two, and take `ours` for what the model is worth.\n",
            self.caption("Not in the paper: what 80 generated images change (the same lesions drawn for both)", "B"),
            self.differences(), ONE_EACH,
            f"## Study C: {scorecard.STUDIES['C']}",
            f"Over seeds, on the official validation part, each run at its best epoch there: as the paper does it, and "
            f"better than on new images. Ours: the mean with its {self.level} interval (Student's t over seeds: what "
            "other seeds would give on the same images); std with n − 1, as the printed ones; "
            "std and quartiles bootstrapped over seeds. AUROC of melanoma.\n",
            self.caption("Table 4.1: accuracy, experiment 1, colour inside the lesion only", "C"),
            self.over_seeds("Table 4.1", "accuracy"),
            self.caption("Table 4.2: accuracy, experiment 2, colour correction", "C"),
            self.over_seeds("Table 4.2", "accuracy"),
            self.caption("Table 4.3: AUROC, experiment 2", "C"), self.over_seeds("Table 4.3", "auroc"),
            self.caption("Table 4.4: accuracy, experiment 3, ARL on ResNet-50", "C"),
            self.over_seeds("Table 4.4", "accuracy"),
            self.caption("Table 4.5: accuracy, experiment 4, ARL on EfficientNet-b0", "C"),
            self.over_seeds("Table 4.5", "accuracy"),
            self.caption("Table 4.6: AUROC, experiment 4", "C"), self.over_seeds("Table 4.6", "auroc"),
            self.caption("Section 3.2: the U-Net that makes the masks", "C"),
            self.side_by_side("C", "Section 3.2", {"dice": "Dice"}),
            self.caption("Not in the paper: does a choice matter? Each against the baseline of its experiment", "C"),
            self.tests_or_none(*seed_lines(self.tests, self.names("C"))), SEEDS,
            f"## Study D: {scorecard.STUDIES['D']}",
            self.caption("Section II-E: segmentation (bootstrap over images)", "D"),
            self.side_by_side("D", "Section II-E", masks),
            self.caption("Abstract: segmentation", "D"), self.side_by_side("D", "Abstract", masks),
            self.caption("Section III-E: classification; the paper repeats its segmentation numbers here", "D"),
            self.side_by_side("D", "Section III-E", {"accuracy": "accuracy", "bma": "BMA"}),
            self.caption("Not in the paper: is one better than another?", "D"),
            self.tests_or_none(*pair_lines(self.tests, "D")),
            f"## Study E: {scorecard.STUDIES['E']}",
            self.caption("Table 3: macro AUC, one class against the rest", "E"),
            self.one_above_the_other("E", "Table 3", {f"{s} auc": s for s in ("train", "val", "test")}),
            self.caption("Table 3: mean and deviation of four models", "E"),
            self.one_above_the_other("E", "Table 3", four, digits=4),
            self.caption("Not in the paper: is one better than another, on the test part?", "E"),
            self.tests_or_none(*pair_lines(self.tests, "E")),
            "## Leaderboards",
            "In brackets: where our number would stand if it were comparable.\n",
            self.caption("ISIC 2019 Task 1, BMA (64 teams, median about 0.49); ours: mean of the folds"),
            self.leaderboard("ISIC 2019 Task 1", means),
            self.caption("ISIC 2019, eight classes, cross-validated by lesion: what ours compares with"),
            self.leaderboard("ISIC 2019, own cross-validation", means),
            self.caption("ISIC 2018 Task 1, thresholded Jaccard"), self.leaderboard("ISIC 2018 Task 1", best),
        ]  # fmt: skip
        return "\n".join([*parts, *(f"[^{reason}]: {self.why[reason]}" for reason in self.used)]) + "\n"

    def side_by_side_ours(self, table: str, metrics: dict[str, str]) -> str:
        rows = self.rows("A", table)
        cells = {(r["run"], r["metric"]): number(r["ours"], r["low"], r["high"]) for _, r in rows.iterrows()}
        runs = rows.drop_duplicates("run").set_index("run")["row"]
        return grid(["", *metrics.values()], [[name, *(cells[run, m] for m in metrics)] for run, name in runs.items()])

    def tests_or_none(self, header: list[str], lines: list[list[str]]) -> str:
        return grid(header, lines) if lines else f"{NOT_RUN}\n"

    def names(self, study: str) -> dict[str, str]:
        """run -> its row in the paper."""
        rows = self.table[self.table["study"] == study]
        return rows.drop_duplicates("run").set_index("run")["row"].to_dict()

    def accuracies(self) -> str:
        rows = self.rows("B", "Chapter 5")
        lines = [[r["row"], r["metric"], *self.pair(r)] for _, r in rows.iterrows()]
        return grid(["", "", "published", "ours"], lines)

    def differences(self) -> str:
        rows = self.rows("B", "Figure 6.1")
        rows = rows[rows["run"] == "difference"]
        if rows.empty:
            return f"{NOT_RUN}\n"
        return grid(["", "ours"], [[r["metric"], number(r["ours"], r["low"], r["high"])] for _, r in rows.iterrows()])
