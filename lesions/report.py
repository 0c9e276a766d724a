"""metrics/compare.md: the documents' tables with ours beside, from the tidy table of lesions.scoreboard."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

SAMPLE = "SAMPLE DATA: drawn pictures. These numbers only prove that the pipeline runs."
NOT_RUN = "not run"
TIES = "An equal highest probability for two classes counts as wrong, as in the official scoring."
VGG16 = (
    "VGG16's BMA of 0.125 is exactly 1/8, and its accuracy of 0.508 the share of nevi (12,875 of 25,331): it put every "
    "image into one class, a training that never left its start, which accuracy alone would hide; "
    "0.125 in Table 6.2 is 5/8 of 1/5, the same failure."
)


def number(value: float, low: float = np.nan, high: float = np.nan) -> str:
    text = "" if np.isnan(value) else f"{value:.3f}"
    return text if np.isnan(low) else f"{text} [{low:.3f}, {high:.3f}]".strip()


def grid(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A GitHub table: the first column to the left, the rest to the right."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


class Report:
    def __init__(
        self, table: pd.DataFrame, published: Path, kind: str, confidence: float, collapsed: list[str]
    ) -> None:
        self.table, self.kind, self.level, self.collapsed = table, kind, f"{100 * confidence:g} %", collapsed
        self.boards = pd.read_csv(published / "leaderboards.csv", keep_default_na=False)
        self.why = pd.read_csv(published / "reasons.csv").set_index("reason")["why"]
        self.used: list[str] = []

    def rows(self, study: str, table: str) -> pd.DataFrame:
        return self.table[(self.table["study"] == study) & (self.table["table"] == table)]

    def caption(self, text: str) -> str:
        loud = f" **({SAMPLE})**" if self.kind == "sample data" else f" ({self.kind})" if self.kind else ""
        return f"\n**{text}**{loud}\n"

    def mark(self, reason: str) -> str:
        if not reason:
            return ""
        if reason not in self.used:
            self.used.append(reason)
        return f" [^{reason}]"

    def pair(self, cell: pd.Series | None) -> tuple[str, str]:
        """Published and ours, marked: a footnote where they do not compare, ✓ where published lies in our interval."""
        if cell is None:
            return "–", "–"
        published = number(cell["published"], cell["published_low"], cell["published_high"]) or "–"
        ours = number(cell["ours"], cell["low"], cell["high"])
        ours = ours or (NOT_RUN if cell["comparable"] == NOT_RUN else "–")
        return published + self.mark(cell["reason"]), ours + (" ✓" if cell["inside"] == "yes" else "")

    def side_by_side(self, study: str, table: str, metrics: dict[str, str]) -> str:
        """One line a run; published and ours of each metric."""
        rows = self.rows(study, table)
        cells = {(r["run"], r["metric"]): r for _, r in rows.iterrows()}
        names = rows.drop_duplicates("run").set_index("run")["row"]
        given = set(rows.loc[rows["published"].notna(), "metric"])  # no column for what nobody published
        sides = {metric: ((0, 1) if metric in given else (1,)) for metric in metrics}
        header = [f"{metrics[m]}, {('published', 'ours')[side]}" for m in metrics for side in sides[m]]
        lines = []
        for run, name in names.items():
            pairs = {metric: self.pair(cells.get((run, metric))) for metric in metrics}
            lines.append([name, *(pairs[m][side] for m in metrics for side in sides[m])])
        return grid(["", *header], lines)

    def folds(self) -> str:
        rows = self.rows("A", "Table 6.4")
        metrics, lines = list(rows["metric"].unique()), []
        metrics.sort(key=lambda metric: (metric == "mean", metric))
        for _, cells in rows.groupby("run", sort=False):
            pairs = {c["metric"]: self.pair(c) for _, c in cells.iterrows()}
            for who, title in enumerate(("published", "ours")):
                lines.append([cells["row"].iloc[0], title, *(pairs.get(m, ("–", "–"))[who] for m in metrics)])
        return grid(["", "", *(m.replace("fold_", "fold ") for m in metrics)], lines)

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
        best = unet[unet["metric"] == "jaccard_thresholded"]
        parts = ["# Published and ours\n"]
        if self.kind == "sample data":
            parts.append(f"> **{SAMPLE}**\n")
        parts += [
            f"{head}\n",
            f"[low, high]: our {self.level} interval (bootstrap over lesions, 1,000 resamples, where nothing else is "
            f"said). ✓: the published number lies in it. Footnotes: why two numbers do not compare. {TIES} "
            "The studies do not say that they split by lesion; we do, which makes the test harder.\n",
            "## Study A: five classifiers, balanced classes, cross-validation, U-Net",
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
            self.side_by_side("A", "Table 6.6", {
                "jaccard": "mean Jaccard", "jaccard_thresholded": "thresholded Jaccard", "dice": "Dice",
            }),
            self.solutions("ISIC 2018 Task 1"),
            f"The paper sets its mean Jaccard beside thresholded ones.{self.mark('mean')}\n",
            self.caption("Not in the paper: every checkpoint of every classifier"),
            self.side_by_side_ours("checkpoints", standard),
            "## Study B: a DCGAN for actinic keratosis",
            self.caption("Chapter 5: accuracy"), self.accuracies(),
            self.caption("Figure 6.1: precision / recall / F1"), self.reports(),
            "Shuffled: what our predictions give on average beside labels in random order, as the published reports "
            "did; compare these two, and take `ours` for what the model is worth.\n",
            self.caption("Not in the paper: what 80 generated images change (the same lesions drawn for both)"),
            self.differences(),
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
