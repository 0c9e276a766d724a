"""Write the scorecard as the documents' tables (metrics/compare.md), and as one page (metrics/scorecard.html).

The texts are the templates beside this file; a table is its header and its lines. The page needs no other file, no
network and no JavaScript.
"""

import base64
import io
import re
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from lesions.compare import scorecard, significance
from lesions.compare.scorecard import NOT_RUN

SAMPLE = "SAMPLE DATA: drawn pictures. These numbers only prove that the pipeline runs."
LOUD = {scorecard.SAMPLE: SAMPLE, scorecard.OTHER: "Other data than the study's."}
COLORS = 64  # of an embedded picture: charts have few, and the page stays small
# The pictures that set published beside ours, and what they show.
PICTURES = {
    "scorecard": "What became of the published numbers of each study, as a bar",
    "standard": "Study A, Table 6.1: loss, accuracy and BMA of five classifiers",
    "balanced": "Study A, Table 6.2: loss, accuracy and BMA with balanced classes",
    "cross_validation": "Study A, Table 6.4: BMA of each fold",
    "reports": "Study B, Figure 6.1: precision, recall and F1 of each class",
    "preprocessing": "Study C: mean accuracy and AUROC over seeds of each configuration",
    "schedules": "Study E, Table 3: macro AUC of eight models in training, validation and test",
    "leaderboards": "The ISIC challenges' leaderboards, with the studies' numbers and ours below",
}
OWN = {  # what is said of a set of one's own; cv: cross-validated
    "bma": "BMA", "auc": "macro AUC", "accuracy": "accuracy", "loss": "loss", "cv_bma": "cv BMA",
    "cv_accuracy": "cv accuracy",
}  # fmt: skip

MASKS = {"jaccard": "mean Jaccard", "jaccard_thresholded": "thresholded Jaccard", "dice": "Dice"}

Table = tuple[list[str], list[list[Any]]]  # header and lines


def render(template: str, table: pd.DataFrame, tests: pd.DataFrame, **values: Any) -> str:
    """Fill a template of this folder with `values` and what both have; in a page (.html.j2) every value is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    shared = {"studies": scorecard.STUDIES, "counts": counted(table), "seeds": seeds(tests, table), "ours": ours}
    return environment.get_template(template).render(shared | values)


def number(value: float, low: float = np.nan, high: float = np.nan, form: str = ".3f") -> str:
    text = "" if pd.isna(value) else f"{value:{form}}"
    return text if pd.isna(low) else f"{text} [{low:{form}}, {high:{form}}]".strip()


def printed(line: Any, form: str = ".6g") -> str:
    """Return what was published; as printed, but for zeros at the end."""
    return number(line["published"], line["published_low"], line["published_high"], form)


def ours(line: Any, digits: int = 3, of: str = "ours") -> str:
    """Return our number of a line of compare.csv, or the `difference` of one of significance.csv, with its interval."""
    return number(line[of], line["low"], line["high"], f".{digits}f")


def chance(test: Any) -> str:
    """Return a p value and, in brackets, the one after Holm's correction."""
    values = (test["p"], test["p_holm"])
    return " (".join("< 0.001" if value < 0.001 else f"{value:.3f}" for value in values) + ")"


def pairs(tests: pd.DataFrame, study: str) -> Table:
    """Return a line for two classifiers: both differences with their intervals, both p with Holm's."""
    rows = tests[tests["family"].str.startswith(f"{study},")]
    lines = []
    for (_, first, second), of in rows.groupby(["family", "first", "second"], sort=False):
        accuracy, bma = (of[of["metric"] == metric].iloc[0] for metric in ("accuracy", "bma"))
        found = (ours(accuracy, of="difference"), chance(accuracy), ours(bma, of="difference"), chance(bma))
        lines.append([f"{second} − {first}", accuracy["n"], *found])
    return ["second − first", "images", "accuracy", "p, McNemar (Holm)", "BMA", "p, bootstrap (Holm)"], lines


def seeds(tests: pd.DataFrame, table: pd.DataFrame) -> Table:
    """Return a line for a run of study C against its baseline under a metric. `table`: the scorecard, for its names."""
    names = dict(table.loc[table["study"] == "C", ["run", "row"]].drop_duplicates("run").to_numpy())
    lines = []
    for (second, metric), of in tests[tests["family"] == "C"].groupby(["second", "metric"], sort=False):
        by_test = {test["test"]: test for test in of.to_dict("records")}
        one, welch = by_test[significance.STUDENT], by_test.get(significance.WELCH)
        first = one["first"]  # a stand-in where the paper's baseline was not run; `published` is against that
        found = [one["note"]] * 3
        if not one["note"]:
            found = [ours(one, 4, "difference"), chance(one), chance(by_test[significance.WILCOXON])]
        published = [ours(welch, 4, "difference"), chance(welch)] if welch else ["–", "–"]
        name = f"{names.get(second, second)} − {names.get(first, first)} ({second} − {first})"
        lines.append([name, metric, one["n"], *found, *published])
    header = ["second − first", "metric", "seeds", "ours", "p, paired t (Holm)", "p, Wilcoxon (Holm)"]
    return [*header, "published", "p, Welch (Holm)"], lines


def counted(table: pd.DataFrame) -> Table:
    """Return what became of the published numbers, by study; without the states that none is in."""
    counts = scorecard.counts(table)
    counts = counts.loc[:, (counts > 0).any() | counts.columns.isin(["published", "reproduced", NOT_RUN])]
    lines = [[f"{study}: {scorecard.STUDIES[str(study)]}", *line] for study, line in counts.iterrows()]
    return ["study", *counts.columns], [*lines, ["all", *counts.sum()]]


def placed(places: pd.DataFrame) -> Table:
    """Return a line for each of our scores on official test sets, with its place among the entries that we know."""
    lines = []
    for line in places.to_dict("records"):
        place = f"{line['place']} [{line['place_low']}, {line['place_high']}] beside {line['known']}"
        shown = ["" if pd.isna(line["n"]) else line["n"], "" if pd.isna(line["place"]) else place, line["comparable"]]
        lines.append([line["challenge"], line["test"], line["model"] or "", line["metric"], ours(line), *shown])
    return ["challenge", "set", "model", "metric", "ours", "images", "place, and of how many known", "compares"], lines


def mark(reason: str) -> str:
    """Return the mark of a footnote, if there is a reason."""
    return f" [^{reason}]" if reason else ""


def both(line: Any, digits: int = 3) -> dict[str, str]:
    """Return both numbers: a footnote where they do not compare, ✓ where published lies in our interval."""
    published = printed(line, f".{digits}f") or "–"
    found = ours(line, digits) or (NOT_RUN if line["comparable"] == NOT_RUN else "–")
    return {"published": published + mark(line["reason"]), "ours": found + " ✓" * (line["inside"] == "yes")}


class Tables:
    """The tables of compare.md, as it asks for them: of the scorecard, and of published/leaderboards.csv."""

    def __init__(self, table: pd.DataFrame, published: Path) -> None:
        self.table, self.boards = table, pd.read_csv(published / "leaderboards.csv", keep_default_na=False)

    def rows(self, study: str, table: str) -> pd.DataFrame:
        return self.table[(self.table["study"] == study) & (self.table["table"] == table)]

    def cells(self, study: str, table: str, metrics: dict[str, str], digits: int = 3) -> dict[str, dict]:
        """Return both numbers by row and, of all `metrics`, by metric."""
        found: dict[str, dict] = {}
        for line in self.rows(study, table).to_dict("records"):
            if line["metric"] in metrics:
                none = {metric: {"published": "–", "ours": "–"} for metric in metrics}
                found.setdefault(line["row"], none)[line["metric"]] = both(line, digits)
        return found

    def side_by_side(
        self, study: str, table: str, metrics: dict[str, str], alone: bool = False, digits: int = 3
    ) -> Table:
        """Return one line a row of the paper; published and ours of each metric. alone: the table is ours alone."""
        given = set(self.rows(study, table).dropna(subset="published")["metric"])
        columns = [(m, who) for m in metrics for who in ("published", "ours") if who == "ours" or m in given]
        cells = self.cells(study, table, metrics, digits).items()
        header = [metrics[metric] if alone else f"{metrics[metric]}, {who}" for metric, who in columns]
        return ["", *header], [[row, *(of[metric][who] for metric, who in columns)] for row, of in cells]

    def groups(self) -> Table:
        """Return a line for the BMA of each ensemble on each part of its test part: by sex, age and source."""
        rows = self.rows("ours", "Ensembles")
        lines = rows[rows["metric"].str.startswith("bma ")].to_dict("records")
        return ["", "", "images", "BMA"], [
            [line["row"], line["metric"].removeprefix("bma "), line["n"], ours(line)] for line in lines
        ]

    def one_above_the_other(self, study: str, table: str, metrics: dict[str, str], digits: int = 3) -> Table:
        """Return two lines a row of the paper, published and ours; a column a metric."""
        cells = self.cells(study, table, metrics, digits).items()
        lines = [[row, who, *(one[who] for one in of.values())] for row, of in cells for who in ("published", "ours")]
        return ["", "", *metrics.values()], lines

    def leaderboard(self, challenge: str, runs: pd.DataFrame) -> Table:
        """Return the ten best and ours, sorted; a place in brackets is where our number would stand if it compared."""
        board = self.boards[self.boards["challenge"] == challenge].to_dict("records")
        lines = [(b["value"], [b["team"] + mark(b["reason"]), b["place"], number(b["value"])]) for b in board]
        for line in runs.dropna(subset="ours").to_dict("records"):
            place = 1 + sum(team["value"] > line["ours"] for team in board)
            stands = f"({place})" if place <= len(board) else f"(below {len(board)})"
            named = [f"**ours: {line['row']}**", stands if board[0]["place"] else "", ours(line)]
            lines.append((line["ours"], named))
        lines.sort(key=lambda line: -line[0])
        return ["", "place", "score"], [line for _, line in lines]

    def reports(self) -> Table:
        """Return Figure 6.1 of study B: precision / recall / F1 of each class, the paper's and ours."""
        models = scorecard.reports(self.table)
        header = [""]
        for name, of in models.items():
            given = "shuffled" if of["published"].notna().any(axis=None) else ""
            header += [f"{name}: published{mark(given)}", "ours", "ours, shuffled"]
        columns = [(report, whose) for of in models.values() for whose, report in of.items()]
        labels = columns[0][0].index if columns else []
        return header, [[label, *(triple(of.loc[label].dropna(), whose) for of, whose in columns)] for label in labels]


def triple(values: pd.Series, whose: str) -> str:
    """Return the scores of a class, or what there is instead."""
    return " / ".join(f"{value:.2f}" for value in values) or ("–" if whose == "published" else NOT_RUN)


def text(
    table: pd.DataFrame, tests: pd.DataFrame, places: pd.DataFrame, published: Path, kinds: dict[str, str],
    data: dict[str, Any], level: str, collapsed: list[str],
) -> str:  # fmt: skip
    """Return compare.md. `data`: source, images, lesions of ISIC 2019; `collapsed`: runs that say one class of all."""
    why = dict(pd.read_csv(published / "reasons.csv")[["reason", "why"]].to_numpy())
    folds = sorted(table.loc[table["table"] == "Table 6.4", "metric"].unique())  # the mean last
    unets = table[table["run"].isin(["unet", "d_unet34"]) & (table["metric"] == "jaccard_thresholded")]
    body = render(
        "compare.md.j2", table, tests, tables=Tables(table, published), kinds=kinds | {"own": ""}, sample=SAMPLE,
        data=data, level=level, own=OWN, collapsed=collapsed, places=placed(places), unets=unets, number=number,
        both=both, mark=mark, masks=MASKS, pairs=lambda study: pairs(tests, study),
        folds={fold: fold.replace("_", " ") for fold in folds},
    )  # fmt: skip
    used = dict.fromkeys(re.findall(r"\[\^(\w+)]", body))  # in the order of their footnotes
    return body + "".join(f"[^{reason}]: {why[reason]}\n" for reason in used)


def picture(path: Path) -> str:
    """Return a PNG for the page, in COLORS colours, as base64."""
    content = io.BytesIO()
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


def html(
    table: pd.DataFrame, tests: pd.DataFrame, published: Path, pictures: Path, kinds: dict[str, str], data: dict
) -> str:
    """Return the page. `pictures`: plots/compare; `data`: as of compare.md."""
    lines, of = scorecard.of_studies(table), Tables(table, published)
    return render(
        "scorecard.html.j2", table, tests, data=data, kinds=kinds, loud=LOUD, printed=printed,
        lines=lines.assign(state=lines.apply(scorecard.state, axis=1)).to_dict("records"),
        why=dict(pd.read_csv(published / "reasons.csv", keep_default_na=False)[["reason", "short"]].to_numpy()),
        pictures={text: picture(pictures / f"{name}.png") for name, text in PICTURES.items()},
        pairs={study: pairs(tests, study) for study in (*"ADE", *data["own"])},
        own={name: of.side_by_side("ours", name, OWN, alone=True) for name in data["own"]},
        masks={name: of.side_by_side("ours", f"{name}: masks", MASKS, alone=True) for name in data["own"]},
    )  # fmt: skip
