"""The embedded sample: the same bytes everywhere, the official layout, exact masks, known lights."""

import csv
import hashlib
import io
import zipfile
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes, label

from lesions.core.errors import InputError
from lesions.core.workers import in_order
from lesions.isic import names as isic
from lesions.raw import tables, zips
from lesions.raw.config import Sample
from lesions.sample import cases as planned
from lesions.sample import scene as drawing
from lesions.sample import writing

SMALL = Sample(seed=3, images=160, pairs=20)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("raw")
    writing.write(target, SMALL, isic2020=True)
    return target


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def members(path: Path, ending: str) -> dict[str, bytes]:
    """Image name -> content, of the members that end with `ending`."""
    with zipfile.ZipFile(path) as file:
        names = [name for name in file.namelist() if name.endswith(ending)]
        return {Path(name).name.removesuffix(ending): file.read(name) for name in names}


def photographs(name: str, count: int) -> list[drawing.Photograph]:
    subjects = [(number, drawing.lesion(name, 5, number)) for number in range(count)]
    return [drawing.photograph(subject, "HAM", 5, number, 0) for number, subject in subjects]


def sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in isic.files(True)}


def blank(seed: int, case: planned.Case) -> tuple[dict[str, bytes], dict[str, bytes]]:
    Image.new("RGB", (40, 30)).save(content := io.BytesIO(), "JPEG")
    return dict.fromkeys(case.names, content.getvalue()), dict.fromkeys(case.names, b"")


def test_the_same_bytes_for_any_number_of_processes(raw, tmp_path, monkeypatch):
    cases = [*planned.plan(SMALL)[:12], planned.plan(SMALL)[-1], planned.plan_2020(SMALL)[0][0]]
    drawer = partial(writing.drawer, 3)
    assert [drawer()(case) for case in cases] == list(in_order(drawer, cases, 2))
    monkeypatch.setattr(writing, "draw_case", blank)
    writing.write(tmp_path / "a", SMALL, isic2020=True)
    writing.write(tmp_path / "b", SMALL, isic2020=True)
    assert sums(tmp_path / "a") == sums(tmp_path / "b")
    for name in (name for name in isic.files(True) if name.endswith(".csv")):
        assert (tmp_path / "a" / name).read_bytes() == (raw / name).read_bytes()


def test_the_files_hold_what_is_drawn_now(raw):
    """The archives, written by several processes, hold the bytes that one process draws again."""
    written = members(raw / isic.IMAGES_2019, ".jpg")
    for case in planned.plan(SMALL)[:-1:9]:
        for name, jpeg in writing.draw_case(SMALL.seed, case)[0].items():
            assert written[name] == jpeg


def test_only_the_official_files_are_there(raw):
    assert {str(p.relative_to(raw)) for p in raw.rglob("*") if p.is_file()} == set(isic.files(True))
    for name in (name for name in isic.files(True) if name.endswith(".zip")):
        folder = "train" if name == isic.IMAGES_2020 else Path(name).stem
        with zipfile.ZipFile(raw / name) as file:
            assert {Path(n).parts[0] for n in file.namelist()} == {folder}
            assert f"{folder}/LICENSE.txt" in file.namelist()
            assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}


def test_csvs_are_as_published(raw):
    for name in (isic.TRUTH_2019, isic.METADATA_2019):
        text = (raw / name).read_bytes()
        assert text.count(b"\r\n") == text.count(b"\n") == SMALL.images + 1
    truth, metadata = rows(raw / isic.TRUTH_2019), rows(raw / isic.METADATA_2019)
    assert list(truth[0]) == ["image", *isic.CLASSES, "UNK"]
    assert list(metadata[0]) == ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"]
    images = set(members(raw / isic.IMAGES_2019, ".jpg"))
    assert images == {row["image"] for row in truth} == {row["image"] for row in metadata}
    for row in truth:
        assert sorted(list(row.values())[1:]) == ["0.0"] * 8 + ["1.0"]


@pytest.mark.parametrize("images", [160, 640, 2000])
def test_classes_keep_their_proportions_and_floors(images):
    counts = planned.shares(images, planned.COUNTS, planned.FLOORS)
    assert sum(counts.values()) == images and list(counts) == list(isic.CLASSES)
    assert all(counts[name] >= planned.FLOORS[name] for name in counts)
    free = [name for name in counts if counts[name] > planned.FLOORS[name]]
    ratios = [counts[name] / planned.COUNTS[name] for name in free]
    assert max(ratios) / min(ratios) < 1.1


def test_the_plan_has_the_real_oddities():
    wanted = Sample(seed=0, images=640, pairs=160)
    cases = planned.plan(wanted)[:-1]
    names = [name for case in cases for name in case.names]
    assert len(set(names)) == len({isic.canonical(name) for name in names}) == wanted.images
    assert sum(name.endswith("_downsampled") for name in names) == round(planned.DOWNSAMPLED * wanted.images)
    assert sum(len(c.names) for c in cases if not c.lesion_id) == round(planned.UNGROUPED * wanted.images)
    assert all(case.source == "MSK" for case in cases if not case.lesion_id)
    assert {case.label for case in cases if case.source == "MSK"} == set(planned.MSK)
    grouped = [case for case in cases if case.lesion_id]
    assert len({case.lesion_id for case in grouped}) == len(grouped)
    assert 1.7 < np.mean([len(case.names) for case in grouped]) < 2.3
    assert max(len(case.names) for case in grouped) == planned.LARGEST_GROUP
    for k in range(3):
        assert 0 < sum(not case.patient[k] for case in cases) < 0.2 * len(cases)


def test_each_class_has_enough_lesions_and_no_lesion_two_classes(raw):
    label_of = {r["image"]: next(c for c in isic.CLASSES if r[c] == "1.0") for r in rows(raw / isic.TRUTH_2019)}
    labels = defaultdict(set)
    for row in rows(raw / isic.METADATA_2019):
        labels[row["lesion_id"] or row["image"]].add(label_of[row["image"]])
    assert all(len(found) == 1 for found in labels.values())
    lesions = Counter(next(iter(found)) for found in labels.values())
    assert min(lesions[name] for name in isic.CLASSES) >= planned.LESIONS


def test_2018_shares_its_pictures_with_2019_but_for_one(raw):
    in_2019 = {isic.canonical(name): jpeg for name, jpeg in members(raw / isic.IMAGES_2019, ".jpg").items()}
    in_2018 = members(raw / isic.IMAGES_2018, ".jpg")
    assert len(in_2018) == SMALL.pairs and not any("_downsampled" in name for name in in_2018)
    shared = set(in_2018) & set(in_2019)
    assert len(shared) == SMALL.pairs - 1
    assert all(in_2018[name] == in_2019[name] for name in shared)
    assert set(in_2018) == set(members(raw / isic.MASKS_2018, "_segmentation.png"))


def test_2017_shares_its_pictures_labels_and_no_lesion_between_its_parts(raw):
    in_2019 = {isic.canonical(name): jpeg for name, jpeg in members(raw / isic.IMAGES_2019, ".jpg").items()}
    label_of = {isic.canonical(r["image"]): next(c for c in isic.CLASSES if r[c] == "1.0")
                for r in rows(raw / isic.TRUTH_2019)}  # fmt: skip
    lesion_of = {isic.canonical(r["image"]): r["lesion_id"] or r["image"] for r in rows(raw / isic.METADATA_2019)}
    lesions = {}
    for part in ("train", "validation"):
        pictures, truth = members(raw / isic.IMAGES_2017[part], ".jpg"), rows(raw / isic.TRUTH_2017[part])
        text = (raw / isic.TRUTH_2017[part]).read_bytes()
        assert text.startswith(b"image_id,melanoma,seborrheic_keratosis\r\nISIC_")
        assert text.count(b"\r\n") == text.count(b"\n") == len(pictures) + 1
        assert sorted(pictures) == [row["image_id"] for row in truth]
        for row in truth:
            name = row["image_id"]
            assert pictures[name] == in_2019[name]
            scores = {"MEL": ("1.0", "0.0"), "BKL": ("0.0", "1.0"), "NV": ("0.0", "0.0")}[label_of[name]]
            assert (row["melanoma"], row["seborrheic_keratosis"]) == scores
        lesions[part] = {lesion_of[name] for name in pictures}
    assert not lesions["train"] & lesions["validation"]


def test_2020_is_a_tenth_with_every_diagnosis_and_a_pair_of_duplicates(raw):
    pictures, truth = members(raw / isic.IMAGES_2020, ".jpg"), rows(raw / isic.TRUTH_2020)
    assert list(truth[0]) == [
        "image_name", "patient_id", "lesion_id", "sex", "age_approx", "anatom_site_general_challenge", "diagnosis",
        "benign_malignant", "target",
    ]  # fmt: skip
    assert sorted(pictures) == [row["image_name"] for row in truth] and len(truth) == SMALL.images // 10
    assert not set(pictures) & {isic.canonical(name) for name in members(raw / isic.IMAGES_2019, ".jpg")}
    assert {row["diagnosis"] for row in truth} == set(planned.DIAGNOSES) and set(isic.DIAGNOSES) < set(
        planned.DIAGNOSES
    )
    malignant = {(row["diagnosis"] == "melanoma", row["benign_malignant"], row["target"]) for row in truth}
    assert malignant == {(True, "malignant", "1"), (False, "benign", "0")}
    (pair,) = rows(raw / isic.DUPLICATES_2020)
    assert pictures[pair["image_name_1"]] == pictures[pair["image_name_2"]]
    assert len(set(pictures.values())) == len(pictures) - 1
    lesions = {row["image_name"]: (row["lesion_id"], row["diagnosis"]) for row in truth}
    assert lesions[pair["image_name_1"]] == lesions[pair["image_name_2"]]
    for name, jpeg in writing.draw_case(SMALL.seed, planned.plan_2020(SMALL)[0][0])[0].items():
        assert pictures[name] == jpeg


def test_without_2020_the_other_files_have_the_same_bytes(raw, tmp_path):
    writing.write(tmp_path, SMALL, isic2020=False)
    written = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert written == set(isic.files(isic2020=False))
    assert all((tmp_path / name).read_bytes() == (raw / name).read_bytes() for name in written)


def test_each_picture_of_2017_has_superpixels(raw):
    for name in isic.IMAGES_2017.values():
        pictures, superpixels = members(raw / name, ".jpg"), members(raw / name, "_superpixels.png")
        assert set(pictures) == set(superpixels) == set(zips.members(raw / name, (".jpg", ".jpeg", ".png")))
        for image, png in superpixels.items():
            pixels = np.asarray(Image.open(io.BytesIO(png))).astype(int)
            assert pixels.shape[:2] == Image.open(io.BytesIO(pictures[image])).size[::-1]
            numbers = np.unique(pixels @ [1, 256, 65536])
            assert numbers.tolist() == list(range(len(numbers))) and len(numbers) > 4


LEAST = {"train": {"MEL": 8, "BKL": 6, "NV": 20}, "validation": {"MEL": 4, "BKL": 4, "NV": 8}}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("images", "pairs", "least"), [(640, 160, LEAST), (240, 40, None)])
def test_2017_has_enough_of_each_class_in_each_part(images, pairs, least, seed):
    wanted = Sample(seed=seed, images=images, pairs=pairs)
    cases = planned.plan(wanted)
    label_of = {name: case.label for case in cases for name in case.names}
    for part, chosen in writing.challenge_2017(cases, wanted).items():
        counts = Counter(label_of[name] for name in chosen)
        assert set(counts) == {"MEL", "BKL", "NV"} and len(set(chosen)) == len(chosen)
        assert all(counts[name] >= (least[part][name] if least else 2) for name in counts)
        if part == "train":
            real = writing.TRAINING_2017
            assert [counts[n] / len(chosen) for n in real] == pytest.approx(
                [real[n] / sum(real.values()) for n in real], abs=0.02
            )


@pytest.mark.parametrize("seed", range(4))
def test_each_class_has_ham_lesions_for_three_parts(seed):
    lesions = Counter(
        case.label for case in planned.plan(Sample(seed=seed, images=240, pairs=40)) if case.lesion_id[:4] == "HAM_"
    )
    assert min(lesions[name] for name in isic.CLASSES) >= planned.HAM_LESIONS


def test_masks_are_whole(raw):
    pictures = members(raw / isic.IMAGES_2018, ".jpg")
    for name, png in members(raw / isic.MASKS_2018, "_segmentation.png").items():
        image = Image.open(io.BytesIO(png))
        mask = np.asarray(image)
        assert image.mode == "L" and image.size == Image.open(io.BytesIO(pictures[name])).size
        assert set(np.unique(mask)) == {0, 255}
        assert label(mask)[1] == 1 and np.array_equal(binary_fill_holes(mask), mask > 0)


@pytest.mark.parametrize("name", isic.CLASSES)
def test_the_mask_holds_the_whole_lesion(name):
    """A photograph of the bare skin differs from the lesion's inside the mask only, and the lesion shows there."""
    subject = drawing.lesion(name, 5, 0)
    view = drawing._view(np.random.default_rng(1), subject.chart.radius, (131, 173))
    scene, mask = drawing._lesion_on_skin(np.random.default_rng(2), subject, *view)
    change = np.abs(scene - drawing._skin(np.random.default_rng(2), subject, (131, 173))).max(2)
    assert change[mask == 0].max() == 0
    assert change[mask > 0].mean() > 0.03


@pytest.mark.parametrize("name", ["NV", "SCC"])
def test_dividing_by_the_illuminant_restores_the_picture_under_white_light(name, monkeypatch):
    lights, illuminant = [], drawing._illuminant
    monkeypatch.setattr(drawing, "_illuminant", lambda *args: lights.append(illuminant(*args)) or lights[-1])
    shots = photographs(name, 4)
    monkeypatch.setattr(drawing, "_illuminant", lambda *args: np.ones(3) / np.sqrt(3))
    for shot, light, white in zip(shots, lights, photographs(name, 4), strict=True):
        assert np.isclose(np.linalg.norm(light), 1)
        Image.fromarray(shot.picture).save(stream := io.BytesIO(), "JPEG", quality=writing.QUALITY)
        error = np.asarray(Image.open(stream)) / (np.sqrt(3) * light) - white.picture
        unclipped = (shot.picture.max(2) < 250) & (white.picture.max(2) < 255)
        assert np.abs(error)[unclipped].mean() < 0.02 * 255
        assert np.abs(error[unclipped].mean(0)).max() < 0.006 * 255


def test_classes_differ_in_colour():
    """Red over green and blue inside the mask: vascular lesions are redder than naevi; melanomas darker than BCC."""

    def inside(name: str) -> np.ndarray:
        return np.array([shot.picture[shot.mask > 0].mean(0) / 255 for shot in photographs(name, 5)])

    naevi, vascular, melanomas, basal = map(inside, ("NV", "VASC", "MEL", "BCC"))
    assert np.median(vascular[:, 2] / vascular[:, 1]) > np.median(naevi[:, 2] / naevi[:, 1]) + 0.1
    assert melanomas.mean() < basal.mean() - 0.1


def test_photographs_of_one_lesion_differ_but_keep_its_chart():
    subject = drawing.lesion("NV", 0, 1)
    first, second = (drawing.photograph(subject, "MSK", 0, 1, k) for k in range(2))
    assert first.picture.shape != second.picture.shape or not np.array_equal(first.picture, second.picture)
    again = drawing.photograph(drawing.lesion("NV", 0, 1), "MSK", 0, 1, 0)
    assert np.array_equal(again.picture, first.picture) and np.array_equal(again.mask, first.mask)


def test_too_many_pairs_are_one_line():
    with pytest.raises(InputError, match=r"data\.sample\.pairs"):
        planned.plan(Sample(seed=0, images=160, pairs=150))


def test_official_test_sets_are_drawn_as_they_lie_in_reality(tmp_path, monkeypatch):
    """2018 Task 3's are in 2019's, 2017's in 2019's training set; 2019's has pictures of no class; others are new."""
    monkeypatch.setattr(writing, "draw_case", blank)
    writing.write(tmp_path, SMALL, isic2020=False, tests=isic.TESTS)
    images = {test: set(zips.members(tmp_path / files[0], (".jpg",))) for test, files in isic.TESTS.items()}
    labels = {
        test: tables.read_test(tmp_path, test, images[test])["label"] for test in isic.TESTS if "task1" not in test
    }
    trained = {isic.canonical(name) for name in zips.members(tmp_path / isic.IMAGES_2019, (".jpg",))}
    assert images["isic2018_val"] | images["isic2018_test"] <= images["isic2019_test"]
    assert not images["isic2018_val"] & images["isic2018_test"]
    assert images["isic2017_test"] & trained
    assert not trained & (images["isic2019_test"] | images["isic2018_task1_test"] | images["isic2018_task1_val"])
    assert set(labels["isic2019_test"]) == {*isic.CLASSES, isic.UNKNOWN}
    assert set(labels["isic2017_test"]) == {"MEL", "BKL", "NV"} and "AKIEC" in set(labels["isic2018_test"])
    masks = zips.members(tmp_path / isic.TESTS["isic2018_task1_test"][1], (".png",))
    assert {name.removesuffix("_segmentation") for name in masks} == images["isic2018_task1_test"]
