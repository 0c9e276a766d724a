"""The embedded sample: the official files with lesions drawn by code, in the official names, layout and oddities.

The same bytes on every machine and for any number of processes: each picture has its own numpy Generator.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lesions.core.files import replacing
from lesions.core.workers import in_order, usable
from lesions.isic import names as isic
from lesions.raw.config import Sample
from lesions.sample import held_out, scene
from lesions.sample.cases import MSK, Case, plan, plan_2020

TRAINING_2017, VALIDATION_2017 = {"MEL": 374, "NV": 1372, "BKL": 254}, {"MEL": 30, "NV": 78, "BKL": 42}
ENLARGED = 1.7  # ISIC 2017's validation part, so that there are four melanomas among 640 images
TRUTH_2019 = (*isic.CLASSES, isic.UNKNOWN)
SUPERPIXEL = 16  # pixels
QUALITY = 90  # of the JPEGs
# Where the code once was: a truer path would be other bytes than everybody has.
LICENCE = "Drawn by code (lesions/sample.py); no photograph of a person is in this archive. CC-0 1.0.\n"
ATTRIBUTION = "None is due: these pictures imitate the layout of the ISIC challenge archives, not their content.\n"


def draw_case(seed: int, case: Case) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return all photographs of one lesion by name, as JPEGs, and the masks of those from MSK, as PNGs."""
    unknown = case.label == isic.UNKNOWN  # of no class: a naevus in colours that no skin has
    subject = scene.lesion("NV" if unknown else case.label, seed, case.number)
    shots = {name: scene.photograph(subject, case.source, seed, case.number, k) for k, name in enumerate(case.names)}
    pictures = {name: shot.picture[..., ::-1] if unknown else shot.picture for name, shot in shots.items()}
    jpegs = {name: _encoded(picture, "JPEG", quality=QUALITY) for name, picture in pictures.items()}
    masks = {name: _encoded(shot.mask, "PNG") for name, shot in shots.items() if case.source == "MSK"}
    return jpegs, masks


def _encoded(pixels: np.ndarray, kind: str, **how: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


def drawer(seed: int) -> Callable[[Case], tuple[dict[str, bytes], dict[str, bytes]]]:
    return partial(draw_case, seed)


def write(target: Path, sample: Sample, isic2020: bool, tests: Iterable[str] = ()) -> None:
    """Write isic.files(isic2020, tests) below `target`, drawn on all cores."""
    cases = plan(sample)
    later, duplicate = plan_2020(sample) if isic2020 else ([], "")
    parts_2017 = challenge_2017(cases, sample)
    sets = held_out.plan(sample, cases[:-1], [name for names in parts_2017.values() for name in names])
    sets = {test: sets[test] for test in tests}
    tested = {case.number: case for of in sets.values() for case in of.cases}
    everything = [*cases, *later, *tested.values()]
    jpegs: dict[str, bytes] = {}
    masks: dict[str, bytes] = {}
    with tqdm(total=sum(len(case.names) for case in everything), desc="drawing the sample", unit="image") as bar:
        for pictures, outlines in in_order(partial(drawer, sample.seed), everything, usable()):
            jpegs |= pictures
            masks |= outlines
            bar.update(len(pictures))
    listed = {name: case for case in cases[:-1] for name in case.names}
    _write_zip(target / isic.IMAGES_2019, {f"{name}.jpg": jpegs[name] for name in listed})
    truth = [[name, *(float(label == case.label) for label in TRUTH_2019)] for name, case in listed.items()]
    _write_csv(target / isic.TRUTH_2019, ["image", *TRUTH_2019], truth)
    people = [[name, *case.patient[:2], case.lesion_id, case.patient[2]] for name, case in listed.items()]
    _write_csv(target / isic.METADATA_2019, ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"], people)
    paired = _paired(cases, sample)
    _write_zip(target / isic.IMAGES_2018, {f"{isic.canonical(n)}.jpg": jpegs[n] for n in paired})
    _write_zip(target / isic.MASKS_2018, {f"{isic.canonical(n)}_segmentation.png": masks[n] for n in paired})
    for part, chosen in parts_2017.items():
        pictures = {f"{isic.canonical(n)}.jpg": jpegs[n] for n in chosen}
        superpixels = {f"{isic.canonical(n)}_superpixels.png": _superpixels(jpegs[n]) for n in chosen}
        _write_zip(target / isic.IMAGES_2017[part], pictures | superpixels)
        scores = [[isic.canonical(n), *(float(listed[n].label == label) for label in ("MEL", "BKL"))] for n in chosen]
        _write_csv(target / isic.TRUTH_2017[part], ["image_id", "melanoma", "seborrheic_keratosis"], scores)
    if later:
        _write_2020(target, later, duplicate, jpegs)
    for test, of in sets.items():
        _write_test(target, test, of, jpegs, masks)


def _write_test(target: Path, test: str, of: held_out.HeldOut, jpegs: dict, masks: dict) -> None:
    """Write a test set's archive of images and its ground truth: masks, or a table, zipped or not as published."""
    images, truth = (target / file for file in isic.TESTS[test])
    ids = {name: isic.canonical(name) for name, _ in of.rows}
    _write_zip(images, {f"{ids[name]}.jpg": jpegs[name] for name in ids})
    if "task1" in test:
        _write_zip(truth, {f"{ids[name]}_segmentation.png": masks[name] for name in ids})
        return
    columns: tuple[str, ...] = {"isic2017": ("MEL", "BKL"), "isic2018": isic.HAM_CLASSES}.get(test[:8], TRUTH_2019)
    akiec = {"AK": isic.AKIEC, "SCC": isic.AKIEC} if test.startswith("isic2018") else {}
    rows = [[ids[name], *(float(akiec.get(label, label) == column) for column in columns)] for name, label in of.rows]
    header = ["image_id", "melanoma", "seborrheic_keratosis"] if test.startswith("isic2017") else ["image", *columns]
    if truth.suffix == ".csv":
        _write_csv(truth, header, rows)
    else:
        _write_zip(truth, {f"{truth.stem}.csv": _table(header, rows).encode()})


def _write_2020(target: Path, cases: list[Case], duplicate: str, jpegs: dict[str, bytes]) -> None:
    listed = {name: case for case in cases for name in case.names}
    first = next(name for name, case in listed.items() if case.diagnosis == "nevus")
    listed[duplicate] = listed[first]
    pictures = {f"{name}.jpg": jpegs[first if name == duplicate else name] for name in listed}
    _write_zip(target / isic.IMAGES_2020, pictures)
    rows = []
    for name, case in listed.items():
        age, site, sex = case.patient
        site = "torso" if "torso" in site else site  # which 2020 does not divide
        person = [case.lesion_id.replace("IL", "IP"), case.lesion_id, sex, age, site]
        rows.append([name, *person, case.diagnosis, *(["malignant", 1] if case.label == "MEL" else ["benign", 0])])
    header = ["image_name", "patient_id", "lesion_id", "sex", "age_approx", "anatom_site_general_challenge"]
    _write_csv(target / isic.TRUTH_2020, [*header, "diagnosis", "benign_malignant", "target"], rows)
    _write_csv(target / isic.DUPLICATES_2020, ["image_name_1", "image_name_2"], [[first, duplicate]])


def _paired(cases: list[Case], sample: Sample) -> list[str]:
    """Draw the names of the 2018 pairs: `sample.pairs - 1` of the MSK images, and the last case's one."""
    rng = np.random.default_rng([sample.seed, 2018])
    msk = [name for case in cases[:-1] for name in case.names if case.source == "MSK"]
    return [*rng.choice(msk, sample.pairs - 1, replace=False).tolist(), *cases[-1].names]


def challenge_2017(cases: list[Case], sample: Sample) -> dict[str, list[str]]:
    """Draw the names of ISIC 2017's images by part (train, validation): MSK ones of 2019, and no lesion in both.

    Validation: the smallest lesions, ENLARGED times the part of a class that it is in reality, two images at least.
    Training: of the others as many as the scarcest class allows in the real proportions.
    """
    rng = np.random.default_rng([sample.seed, 2017])
    validation, rest = list[str](), {}
    for label in MSK:
        found = [case.names for case in cases[:-1] if case.source == "MSK" and case.label == label]
        lesions = sorted((found[i] for i in rng.permutation(len(found))), key=len)
        images = sum(map(len, lesions))
        part = ENLARGED * VALIDATION_2017[label] / (VALIDATION_2017[label] + TRAINING_2017[label])
        wanted, taken = min(max(2, round(part * images)), images // 2), list[str]()
        while len(taken) < wanted and len(lesions) > 1:
            taken += lesions.pop(0)
        validation += taken
        rest[label] = [name for names in lesions for name in names]
    scale = min(len(names) / TRAINING_2017[label] for label, names in rest.items())
    train = []
    for label, names in rest.items():
        train += rng.choice(names, round(scale * TRAINING_2017[label]), replace=False).tolist()
    return {"train": train, "validation": validation}


def _superpixels(jpeg: bytes) -> bytes:
    """Return a PNG as ISIC 2017 has beside each image: each pixel's superpixel, numbered; red is the low byte."""
    with Image.open(io.BytesIO(jpeg)) as image:
        width, height = image.size
    y, x = np.indices((height, width)) // SUPERPIXEL
    numbers = y * (x.max() + 1) + x
    return _encoded(np.stack([numbers % 256, numbers // 256, 0 * numbers], axis=2).astype(np.uint8), "PNG")


def _write_zip(path: Path, members: dict[str, bytes]) -> None:
    """Write an archive of one folder, named as the official one's: licence, attribution, and `members` by name."""
    folder = isic.FOLDERS.get(path.name, path.stem)
    texts = {"LICENSE.txt": LICENCE.encode(), "ATTRIBUTION.txt": ATTRIBUTION.encode()}
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [*texts.items(), *sorted(members.items())]:
            entry = zipfile.ZipInfo(f"{folder}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content)


def _write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    """Write a CSV with CRLF line ends, as published; sorted by image."""
    with replacing(path) as part:
        part.write_text(_table(header, rows), encoding="utf-8", newline="")


def _table(header: list[str], rows: list[list]) -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\r\n").writerows([header, *sorted(rows)])
    return stream.getvalue()
