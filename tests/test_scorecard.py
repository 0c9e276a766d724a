"""The scorecard: published numbers, what becomes of them beside made-up scores, and the page."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from lesions.compare import intervals, measured, pages, scorecard, significance
from lesions.compare.measured import scored
from lesions.core.errors import InputError
from lesions.isic.names import CLASSES

PUBLISHED = Path(__file__).parents[1] / "published"
NUMBERS = pd.read_csv(PUBLISHED / "numbers.csv", keep_default_na=False)
COUNTS = {"A": 79, "B": 92, "C": 121, "D": 5, "E": 36}
SAME = dict.fromkeys("ABCDE", "")


def rows() -> list[dict]:
    """One of each fate, C's mean of four seeds, and two numbers that nobody published."""
    found = scored("A", "Table 6.1", "residual", 100, {"bma": (0.5, 0.4, 0.6)})  # .547
    found += scored("A", "Table 6.1", "residual", 100, {"accuracy": (0.5, 0.4, 0.6), "loss": (1.0, 0.9, 1.1)})  # .703
    found += scored("B", "Figure 6.1", "base_64", 100, {"AK support": (170,)})
    found += scored("C", "Table 4.2", "c_base", 4, {"accuracy mean": (0.87, 0.86, 0.88), "accuracy std": (0.007,)})
    found += scored("C", "Table 4.2", "c_base", 4, {"accuracy max": (0.88,)}, "seeds")
    found += scored("D", "Section III-E", "d_snap", 50, {"bma": (0.7, 0.6, 0.8)})
    found += scored("E", "Table 3", "e_m0", 50, {"test auc": (0.9, 0.88, 0.92)})  # .892
    found += scored("E", "Table 3", "e_m4", 50, {"test auc": (0.9, 0.88, 0.92)}, "merged")
    return found + scored("A", "Table 6.1", "mine", 100, {"bma": (0.9, 0.8, 1.0)})


def cell(table: pd.DataFrame, run: str, metric: str) -> pd.Series:
    (found,) = (line for _, line in table[(table["run"] == run) & (table["metric"] == metric)].iterrows())
    return found


@pytest.fixture
def table() -> pd.DataFrame:
    return scorecard.beside(PUBLISHED, rows(), SAME)


def test_every_published_number_is_there(table):
    given = NUMBERS[(NUMBERS["value"] != "") | (NUMBERS["low"] != "")]
    assert given["study"].value_counts().to_dict() == COUNTS
    assert scorecard.counts(table)["published"].to_dict() == COUNTS
    assert len(scorecard.of_studies(table)) == sum(COUNTS.values())


def test_runs_and_tables():
    """Every configuration of C's tables has its six statistics, every model of E its three parts."""
    found = NUMBERS[(NUMBERS["study"] == "C") & NUMBERS["table"].str.startswith("Table") & (NUMBERS["value"] != "")]
    of = found["metric"].str.split(" ", expand=True).groupby([found["table"], found["row"]])[1].apply(list)
    assert len(of) == 20 and all(each == ["mean", "std", "q25", "q50", "q75", "max"] for each in of)
    assert set(significance.BASELINES) | set(significance.BASELINES.values()) == {
        run for run in NUMBERS["run"] if run.startswith("c_")
    }
    models = NUMBERS[NUMBERS["run"].str.fullmatch(r"e_m\d")]
    assert Counter(models["run"]) == dict.fromkeys((f"e_m{k}" for k in range(8)), 3)


def test_published_numbers_of_c_are_those_of_ten_runs_on_150_images():
    """Accuracies are k/150 (30 melanomas: AUROC k/3600), so what ten runs give is a multiple of a tenth, a quarter …"""
    found = NUMBERS[(NUMBERS["study"] == "C") & (NUMBERS["value"] != "") & (NUMBERS["run"] != "unet")]
    divided = {"mean": 10, "q25": 4, "q50": 2, "q75": 4, "max": 1}
    for line in found[~found["metric"].str.endswith("std")].itertuples():
        metric, statistic = line.metric.split()
        units = float(line.value) * divided[statistic] * {"accuracy": 150, "auroc": 3600}[metric]
        units *= 2 if metric == "auroc" else 1  # ties count half
        assert units == pytest.approx(round(units), abs=0.075), line
    ordered = found.pivot_table(index=["table", "row"], columns="metric", values="value", aggfunc="first").astype(float)
    for metric in ("accuracy", "auroc"):
        part = ordered[[f"{metric} {s}" for s in ("q25", "q50", "q75", "max")]].dropna()
        assert len(part) and (part.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


def test_published_stds_of_c_have_n_minus_1():
    """Σ(k − k̄)² of ten integers k is a multiple of 1/10: 9·std²·150² is, which 10·std²·150² is not."""
    found = NUMBERS[(NUMBERS["study"] == "C") & NUMBERS["metric"].eq("accuracy std")]
    means = NUMBERS[(NUMBERS["study"] == "C") & NUMBERS["metric"].eq("accuracy mean") & (NUMBERS["value"] != "")]
    off = {9: [], 10: []}
    for std, mean in zip(found["value"].astype(float), means["value"].astype(float), strict=True):
        total = round(mean * 1500)
        for below, of in off.items():
            squares = below * (150 * std) ** 2 + total**2 / 10
            of.append(abs(squares - round(squares)))
    assert max(off[9]) < 0.01 < max(off[10])


@pytest.mark.parametrize(("group", "models"), [("e_m0_m3", range(4)), ("e_m4_m7", range(4, 8))])
def test_means_of_e_follow_from_its_models(group, models):
    value = {(line.run, line.metric): float(line.value) for line in NUMBERS[NUMBERS["study"] == "E"].itertuples()}
    for split in ("train", "val", "test"):
        four = [value[f"e_m{k}", f"{split} auc"] for k in models]
        assert value[group, f"{split} auc mean"] == pytest.approx(np.mean(four), abs=6e-6)
        assert value[group, f"{split} auc sd"] == pytest.approx(np.std(four, ddof=1), abs=6e-6)


def test_what_becomes_of_a_number(table):
    states = {
        ("residual", "bma"): "reproduced",
        ("residual", "accuracy"): "outside",
        ("residual", "loss"): "not comparable",
        ("base_64", "AK support"): "no interval",
        ("c_base", "accuracy max"): "not comparable",
        ("e_m0", "test auc"): "reproduced",
        ("e_m4", "test auc"): "not comparable",
        ("e_m1", "test auc"): "not run",
    }
    for (run, metric), state in states.items():
        assert scorecard.state(table[(table["run"] == run) & (table["metric"] == metric)].iloc[0]) == state
    mean = cell(table[table["table"] == "Table 4.2"], "c_base", "accuracy mean")
    assert (mean["inside"], mean["n"]) == ("yes", 4) and mean["difference"] == pytest.approx(0.87 - 0.874)
    assert cell(table, "c_base", "accuracy max")["comparable"] == "maximum of another number of runs"
    official = table[(table["study"] == "D") & (table["run"] == "")]
    assert len(official) == 3 and set(official.apply(scorecard.state, axis=1)) == {"not comparable"}
    own = table[(table["row"] == "mine")]
    assert set(own["comparable"]) == {""} and own["difference"].isna().all()
    snap = cell(table, "d_snap", "bma")
    assert snap["row"] == "SnapEnsemble" and np.isnan(snap["published"]) and snap["ours"] == 0.7


def test_counts_add_up(table):
    for kinds in (SAME, SAME | {"C": "other data"}, dict.fromkeys("ABCDE", "sample data")):
        counts = scorecard.counts(scorecard.beside(PUBLISHED, rows(), kinds))
        assert (counts.drop(columns="published").sum(axis=1) == counts["published"]).all()
    assert counts["sample data"].to_dict() == {"A": 3, "B": 1, "C": 3, "D": 0, "E": 2}
    assert not counts[["reproduced", "outside", "no interval"]].to_numpy().any()
    counts = scorecard.counts(table)
    assert counts.loc["A", ["reproduced", "outside", "not comparable", "not run"]].to_list() == [1, 1, 1, 76]
    assert counts.loc["C", ["reproduced", "no interval", "not comparable", "not run"]].to_list() == [1, 1, 1, 118]


def test_other_data_is_never_judged():
    found = scorecard.beside(PUBLISHED, rows(), SAME | {"C": "other data"})
    assert set(found.loc[found["study"] == "C", "inside"]) == {""}
    assert (found.loc[found["study"] == "A", "inside"] == "yes").sum() == 1


def test_headline(table):
    ours = scorecard.headline(table)
    assert ours == {"printed": 333, "rerun": 9, "reproduced": 3, "outside": 1}
    assert scorecard.headline(scorecard.beside(PUBLISHED, rows()[:1], SAME)) == ours | {
        "rerun": 1,
        "reproduced": 1,
        "outside": 0,
    }


# Scores


def made(truth: np.ndarray, probabilities: np.ndarray, prefix: str = "") -> measured.Tested:
    images = np.array([f"{prefix}{i}" for i in range(len(truth))])
    classes = CLASSES[: probabilities.shape[1]]
    return measured.Tested(classes, images, np.arange(len(truth)) // 2, truth, probabilities)


def test_ensemble_is_the_mean_of_the_probabilities():
    truth = np.array([0, 1, 2])
    first = made(truth, np.array([[0.6, 0.4, 0.0], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]))
    second = made(truth, np.array([[0.2, 0.2, 0.6], [0.1, 0.7, 0.2], [0.3, 0.3, 0.4]]))
    both = measured.ensemble([first, second])
    np.testing.assert_allclose(both.probabilities, [[0.4, 0.3, 0.3], [0.3, 0.5, 0.2], [0.2, 0.2, 0.6]])
    assert both.guess.tolist() == [0, 1, 2] and both.images.tolist() == first.images.tolist()
    np.testing.assert_array_equal(measured.ensemble([first]).probabilities, first.probabilities)
    with pytest.raises(InputError, match="different test images"):
        measured.ensemble([first, made(truth, second.probabilities, "other")])
    with pytest.raises(InputError, match="different test images or classes"):
        measured.ensemble([first, made(truth, np.full((3, 4), 0.25))])


def drawn(seed: int, images: int = 300) -> measured.Tested:
    """Five classes, the last without an image; probabilities in steps of .1, so that many tie."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, images)
    return made(truth, (rng.dirichlet(np.ones(5), images) + 0.3 * np.eye(5)[truth]).round(1))


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_scikit_learns(seed):
    one, weights = drawn(seed), np.random.default_rng(seed).integers(0, 4, (300, 5))
    found = measured.macro_auc(one, weights)
    for column in range(5):
        areas = [
            roc_auc_score(one.truth == c, one.probabilities[:, c], sample_weight=weights[:, column]) for c in range(4)
        ]
        assert found[column] == pytest.approx(np.mean(areas))
    alone = [roc_auc_score(one.truth == c, one.probabilities[:, c]) for c in range(4)]
    assert measured.macro_auc(one) == pytest.approx([np.mean(alone)])
    assert measured.melanoma_auc(one) == pytest.approx(alone[0])


def test_auc_without_a_class():
    """A resample that leaves a class empty has no macro AUC; images of one class alone have none either."""
    one = made(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]]))
    found = measured.macro_auc(one, np.array([[1, 1], [1, 1], [1, 0], [1, 0]]))
    assert found[0] == 0.75 and np.isnan(found[1])
    assert np.isnan(measured.macro_auc(made(np.zeros(3, int), np.full((3, 2), 0.5)))).all()


def test_resampled_auc_is_the_auc_of_resampled_images(monkeypatch):
    """Against the images written out as often as their lesion is drawn."""
    monkeypatch.setattr(intervals, "RESAMPLES", 20)
    one = drawn(0, 60)
    found = measured.resampled_auc(one)
    times = np.concatenate(list(intervals.draws(30, 20)))[:, one.lesions]
    assert len(found) == 20
    for area, counts in zip(found, times, strict=True):
        rows = np.repeat(np.arange(60), counts)
        copied = measured.Tested(
            one.classes, one.images[rows], one.lesions[rows], one.truth[rows], one.probabilities[rows]
        )
        assert area == pytest.approx(measured.macro_auc(copied)[0])


def test_over_seeds_is_pandas_describe():
    values = np.array([0.88, 0.86, 0.9, 0.87, 0.85])
    found, described = measured.over_seeds(values, 0.95), pd.Series(values).describe()
    for ours, theirs in (("std", "std"), ("q25", "25%"), ("q50", "50%"), ("q75", "75%"), ("max", "max")):
        assert found[ours][0] == pytest.approx(described[theirs])
    for name in ("q25", "q50", "q75"):  # resampled values are those that there are
        value, low, high = found[name]
        assert 0.85 <= low <= value <= high <= 0.9
    assert 0 <= found["std"][1] < found["std"][0] < found["std"][2] and len(found["max"]) == 1
    mean, low, high = found["mean"]
    half = 2.776445 * described["std"] / np.sqrt(5)  # t for 95 % and four degrees of freedom
    assert (mean, low, high) == pytest.approx((0.872, 0.872 - half, 0.872 + half), abs=1e-6)


def test_few_seeds():
    found = measured.over_seeds(np.array([0.9]), 0.95)
    assert "std" not in found and found["max"] == (0.9,) and np.isnan(found["mean"][1:]).all()
    two = measured.over_seeds(np.array([0.9, 0.8]), 0.95)
    assert np.isnan([bound for name in ("mean", "std", "q50") for bound in two[name][1:]]).all()
    mean, low, high = measured.over_seeds(np.array([1.0, 0.9, 0.5]), 0.95)["mean"]
    assert 0 <= low < mean < high == 1  # kept within 0 and 1


# The page


class Outline(HTMLParser):
    """What a page is made of; fails where an element is not closed in order."""

    VOID = ("meta", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.links, self.cells, self.heads = [], Counter(), [], [], 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.heads += ("scope", "col") in attrs or ("scope", "row") in attrs
        if tag in ("td", "th", "caption"):
            self.cells.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th", "caption"):
            self.cells[-1] += data


@pytest.fixture
def pictures(tmp_path) -> Path:
    for name in pages.PICTURES:
        Image.new("RGB", (40, 30), "white").save(tmp_path / f"{name}.png")
    return tmp_path


def html(table: pd.DataFrame, pictures: Path, kinds: dict[str, str] = SAME, source: str = "isic") -> str:
    tests = significance.corrected(significance.seeds({"accuracy": {}, "auroc": {}}, NUMBERS, 0.95))
    data = {"source": source, "images": 25_331, "lesions": 10_000, "own": []}
    return pages.html(table, tests, PUBLISHED, pictures, kinds, data)


def read(text: str) -> Outline:
    outline = Outline()
    outline.feed(text)
    outline.close()
    assert outline.open == []
    return outline


def test_the_page_is_whole_and_needs_nothing_else(table, pictures):
    text = html(table, pictures)
    outline = read(text)
    assert outline.tags["script"] == outline.tags["link"] == outline.tags["iframe"] == 0
    assert len(outline.links) == outline.tags["img"] == len(pages.PICTURES)
    assert all(link.startswith("data:image/png;base64,") for link in outline.links)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert outline.tags["th"] == outline.heads and outline.tags["caption"] == outline.tags["table"]


def test_the_page_has_every_published_number(table, pictures):
    cells = Counter(read(html(table, pictures)).cells)
    printed = Counter()
    for line in NUMBERS[(NUMBERS["value"] != "") | (NUMBERS["low"] != "")].itertuples():
        bounds = f"[{float(line.low):g}, {float(line.high):g}]" if line.low else ""
        printed[f"{float(line.value):g} {bounds}".strip() if line.value else bounds] += 1
    assert all(cells[number] >= times for number, times in printed.items())
    assert cells["reproduced"] == 1 + 3 and cells["outside"] == 1 + 1  # the head of the counts; the numbers themselves
    assert "0.5000 [0.4000, 0.6000]" in cells and "not run" in cells


def test_the_page_says_loudly_that_data_are_drawn(pictures):
    kinds = dict.fromkeys("ABCDE", "sample data")
    text = html(scorecard.beside(PUBLISHED, rows(), kinds), pictures, kinds)
    assert text.count(f'<p class="loud">{pages.SAMPLE}</p>') == 1 + 5
    cells = Counter(read(text).cells)
    assert cells["sample data"] == 1 + 9 and (cells["reproduced"], cells["outside"]) == (1, 0)


def test_the_page_escapes(table, pictures):
    table.loc[table["run"] == "residual", "row"] = "<script>alert('&')</script>"
    outline = read(html(table, pictures, SAME | {"A": "other data"}, "a < b & <b>c</b>"))
    assert outline.tags["script"] == outline.tags["b"] == 0
    assert "<script>alert('&')</script>" in outline.cells
