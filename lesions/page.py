"""metrics/scorecard.html: the scorecard as one page that needs no other file, no network and no JavaScript."""

import base64
import io
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from lesions import report, scorecard

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
STYLE = """
:root { color-scheme: light dark; --line: #ccc; --soft: #f3f3f3; --loud: #b00020; --good: #00664b; --bad: #a34700; }
@media (prefers-color-scheme: dark) {
  :root { --line: #555; --soft: #262626; --loud: #ff8a9b; --good: #5fd3ae; --bad: #ffa566; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; }
.table { overflow-x: auto; margin: 1rem 0 2rem; }
table { border-collapse: collapse; font-size: .875rem; }
caption { text-align: left; font-weight: bold; padding: .25rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem; text-align: right; vertical-align: top; }
th { background: var(--soft); }
tbody th, td.text { text-align: left; }
tbody th { font-weight: normal; background: none; }
.loud { color: var(--loud); font-weight: bold; }
.reproduced { color: var(--good); font-weight: bold; }
.outside { color: var(--bad); font-weight: bold; }
figure { margin: 1rem 0 2rem; }
img { max-width: 100%; height: auto; background: white; }
"""
LOUD = {scorecard.SAMPLE: report.SAMPLE, scorecard.OTHER: "Other data than the study's."}


def grid(caption: str, header: Iterable[str], lines: Iterable[Iterable[str]], text: tuple[int, ...] = ()) -> str:
    """A table whose first column heads the lines. `text`: columns of words, set to the left. All cells are escaped."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = []
    for first, *rest in lines:
        cells = [f'<th scope="row">{escape(first)}</th>']
        for place, cell in enumerate(rest, start=1):
            known = cell if cell in ("reproduced", "outside") else ""
            names = " ".join(name for name in ("text" if place in text else "", known) if name)
            cells.append(f'<td class="{names}">{escape(cell)}</td>' if names else f"<td>{escape(cell)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    rows = "\n".join(body)
    return (
        f'<div class="table"><table><caption>{escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>\n"
    )


def picture(path: Path, text: str) -> str:
    """A PNG as part of the page, in COLORS colours."""
    content = io.BytesIO()
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    data = base64.b64encode(content.getvalue()).decode()
    image = f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>\n"


def published(line: pd.Series) -> str:
    """As printed, but for zeros at the end."""
    if np.isnan(line["published_low"]):
        return f"{line['published']:.6g}"
    bounds = f"[{line['published_low']:.6g}, {line['published_high']:.6g}]"
    return bounds if np.isnan(line["published"]) else f"{line['published']:.6g} {bounds}"


def number_lines(rows: pd.DataFrame, why: pd.Series) -> list[list[str]]:
    lines = []
    for _, line in rows.iterrows():
        state = scorecard.state(line)
        have = not np.isnan(line["ours"])
        ours = report.number(line["ours"], line["low"], line["high"], 4) if have else state if line["run"] else "–"
        difference = f"{line['difference']:+.4f}" if have and not np.isnan(line["difference"]) else "–"
        remark = "; ".join(text for text in (line["note"], why.get(line["reason"], "")) if text)
        n = str(line["n"]) if have else "–"
        lines.append([line["row"], line["metric"], published(line), ours, difference, n, state, remark])
    return lines


def html(
    table: pd.DataFrame, tests: pd.DataFrame, folder: Path, pictures: Path, kinds: dict[str, str], head: str
) -> str:
    """The page. `folder`: published/; `pictures`: plots/compare; `head`: what our numbers were made from."""
    why = pd.read_csv(folder / "reasons.csv", keep_default_na=False).set_index("reason")["short"]
    counts = scorecard.counts(table)
    totals = [
        *([f"{s}: {scorecard.STUDIES[s]}", *map(str, line)] for s, line in counts.iterrows()),
        ["all", *map(str, counts.sum())],
    ]
    parts = ["<h1>Published and ours: five studies of skin lesions</h1>\n"]
    parts += [f'<p class="loud">{escape(LOUD[kind])}</p>\n' for kind in dict.fromkeys(kinds.values()) if kind]
    parts.append(f"<p>{escape(head)}</p>\n")
    parts.append(grid("What became of the published numbers", ["study", *counts.columns], totals))
    parts.append(
        "<p>Reproduced: the published number lies in our interval; outside: it does not; no interval: ours has none. "
        "[low, high]: our interval, over lesions (study C: over seeds; masks: over images).</p>\n"
    )
    parts += [picture(pictures / f"{name}.png", text) for name, text in PICTURES.items()]
    lines = scorecard.of_studies(table)
    header = ["row", "metric", "published", "ours", "difference", "n", "state", "remark"]
    for study, title in scorecard.STUDIES.items():
        parts.append(f"<section><h2>Study {study}: {escape(title)}</h2>\n")
        parts += [f'<p class="loud">{escape(LOUD[kinds[study]])}</p>\n'] if kinds[study] else []
        for name, rows in lines[lines["study"] == study].groupby("table", sort=False):
            parts.append(grid(f"Study {study}, {name}", header, number_lines(rows, why), text=(1, 6, 7)))
        parts.append("</section>\n")
    parts.append("<section><h2>Is a difference more than chance?</h2>\n")
    for study in ("A", "D", "E"):
        columns, body = report.pair_lines(tests, study)
        parts.append(
            grid(f"Study {study}: two classifiers on the same images", columns, body or [["", report.NOT_RUN]])
        )
    names = table[table["study"] == "C"].drop_duplicates("run").set_index("run")["row"].to_dict()
    columns, body = report.seed_lines(tests, names)
    parts.append(grid("Study C: each run against its baseline, over seeds", columns, body, text=(1,)))
    parts.append("</section>\n")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Published and ours</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(parts)}</main>\n</body>\n</html>\n"
    )
