"""Set every published number of the five studies beside ours; judge, count and sum up.

One tidy table, of which metrics/compare.csv, compare.md, compare.json and scorecard.html are renderings.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lesions.compare.measured import COLUMNS, KEYS
from lesions.isic.names import CLASSES

STUDIES = {
    "A": "five classifiers, balanced classes, cross-validation, U-Net",
    "B": "a DCGAN for actinic keratosis",
    "C": "preprocessing and attention for melanoma",
    "D": "Unet34, and ensembles of snapshots and crops",
    "E": "ResNet18 under four schedules",
}
ISIC_2019 = dict(zip(CLASSES, (4522, 12875, 3323, 867, 2624, 239, 253, 628), strict=True))
ISIC_2017 = {"OTHER": 120, "MEL": 30}  # the official validation part, on which study C reports
PAIRS_2018 = 2594
ADDED_2020 = 5934  # images of 2020 in study E's 31,265

SCORES = ["precision", "recall", "f1"]  # of study B's reports
NOT_RUN = "not run"
SAMPLE, OTHER = "sample data", "other data"
# What can become of a published number, in the order of the counts.
STATES = ("reproduced", "outside", "no interval", "not comparable", SAMPLE, OTHER, NOT_RUN)


def data_kinds(
    source: str, labels: pd.Series, pairs: int, melanoma: dict[str, int] | None, added: int
) -> dict[str, str]:
    """Return by study: 'sample data'; '' where the images are as many as the study is rerun on; else 'other data'.

    labels: of the ISIC 2019 images. pairs: how many of ISIC 2018 Task 1. melanoma: images of each class in study C's
    validation part; None if it was not run. added: images of ISIC 2020 in study E's set: none, which its reason tells,
    or as many as in the paper but for a hundredth, since it does not say by which list it left duplicates out.
    """
    whole = labels.value_counts().to_dict() == ISIC_2019
    matches = {
        "A": whole,
        "B": whole,
        "C": melanoma in (None, ISIC_2017),
        "D": pairs == PAIRS_2018,
        "E": whole and (added == 0 or abs(added - ADDED_2020) <= ADDED_2020 // 100),
    }
    return {study: SAMPLE if source == "sample" else "" if same else OTHER for study, same in matches.items()}


def beside(published: Path, ours: list[dict], kinds: dict[str, str]) -> pd.DataFrame:
    """Return the tidy table: what was published in its order, then what nobody published; its columns: stages.compare.

    `ours`: rows of measured.scored; `kinds`: as data_kinds. `inside` is blank where the pair is not comparable.
    """
    numbers = pd.read_csv(published / "numbers.csv", keep_default_na=False)
    boards = pd.read_csv(published / "leaderboards.csv", keep_default_na=False).assign(study="leaderboard", run="")
    boards = boards.rename(columns={"challenge": "table", "team": "row", "entry": "note"})
    scores = {"value": "published", "low": "published_low", "high": "published_high"}
    both = pd.concat([numbers, boards])[numbers.columns].rename(columns=scores)
    both[[*scores.values()]] = both[[*scores.values()]].apply(pd.to_numeric)
    mine = pd.DataFrame(ours, columns=COLUMNS).rename(columns={"reason": "our_reason"})
    table = both.merge(mine, on=KEYS, how="left", validate="many_to_one")
    alone = mine[~mine.set_index(KEYS).index.isin(both.set_index(KEYS).index)]
    row_of = {(line.study, line.run): line.row for line in numbers.itertuples()}
    alone = alone.assign(row=[row_of.get((line.study, line.run), line.run) for line in alone.itertuples()])
    table = pd.concat([table, alone.reindex(columns=table.columns)], ignore_index=True)
    table[["reason", "our_reason", "note"]] = table[["reason", "our_reason", "note"]].fillna("")
    table["reason"] = table["reason"].where(table["reason"] != "", table["our_reason"])
    short = pd.read_csv(published / "reasons.csv", keep_default_na=False).set_index("reason")["short"]
    kind = table["study"].map(kinds | {"leaderboard": kinds["A"]})
    told = (table["study"] == "leaderboard") & (table["reason"] != "")  # which no data would make comparable
    comparable = table["reason"].map(short).where(table["reason"] != "", "yes").where((kind == "") | told, kind)
    comparable = comparable.where(table["published"].notna() | table["published_low"].notna(), "")
    table["comparable"] = comparable.where(table["ours"].notna() | (table["run"] == ""), NOT_RUN)
    within = (table["published"] >= table["low"]) & (table["published"] <= table["high"])
    judged = (table["comparable"] == "yes") & table[["published", "ours", "low"]].notna().all(axis=1)
    table["inside"] = np.where(judged, np.where(within, "yes", "no"), "")
    table["difference"] = table["ours"] - table["published"]
    table["n"] = table["n"].astype("Int64")
    order = ["study", "table", "row", "run", "metric", *scores.values()]
    return table[[*order, "ours", "difference", "low", "high", "n", "inside", "comparable", "reason", "note"]]


def reports(table: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Return Figure 6.1 of study B: by model its reports, published, ours and ours beside shuffled labels.

    A report has a line a class, their means and the accuracy, which stands in the last of its columns SCORES.
    """
    rows = table[(table["table"] == "Figure 6.1") & (table["run"] != "difference")]
    score = rows["metric"].str.split().str[-1].replace("accuracy", SCORES[-1])
    rows = rows.assign(line=rows["metric"].str.replace(r" \w+$", "", regex=True), score=score)[score.isin(SCORES)]
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for run, name in rows.loc[~rows["run"].str.endswith(" shuffled"), ["run", "row"]].drop_duplicates("run").to_numpy():
        whose = (("published", run, "published"), ("ours", run, "ours"), ("shuffled", f"{run} shuffled", "ours"))
        found[name] = {
            title: rows[rows["run"] == of].pivot(index="line", columns="score", values=column)
            .reindex(index=rows["line"].unique(), columns=SCORES) for title, of, column in whose
        }  # fmt: skip
    return found


def of_studies(table: pd.DataFrame) -> pd.DataFrame:
    """Return the lines with a number that one of the five studies published."""
    return table[table["study"].isin(list(STUDIES)) & (table["published"].notna() | table["published_low"].notna())]


def state(line: Any) -> str:
    """Return one of STATES for a published number. A number that no prediction can repeat is not comparable."""
    if line["comparable"] in (NOT_RUN, SAMPLE, OTHER) and line["run"]:
        return line["comparable"]
    if line["comparable"] != "yes":
        return "not comparable"
    return {"yes": "reproduced", "no": "outside", "": "no interval"}[line["inside"]]


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Return int: a line a study, the columns `published` and STATES, which add up to it."""
    lines = of_studies(table)
    states = lines.apply(state, axis=1)
    found = pd.crosstab(lines["study"], states).reindex(index=list(STUDIES), columns=list(STATES), fill_value=0)
    found.insert(0, "published", found.sum(axis=1))
    return found.rename_axis(index="study", columns=None)


def headline(table: pd.DataFrame) -> dict[str, int]:
    """Return, for `dvc metrics`: how many numbers were published, stand beside one of ours, lie in and out of our
    interval."""
    total = (
        counts(table).sum().rename({"published": "printed"})
    )  # a column `published` would be the folder of that name
    total["rerun"] = of_studies(table)["ours"].notna().sum()
    return {name: int(total[name]) for name in ("printed", "rerun", "reproduced", "outside")}
