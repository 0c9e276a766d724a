"""Preparing images: decode and resize, colour constancy, memory.

Resize: what stages/resize.py does with one JPEG of 1024² (a drawn lesion with noise, about 200 kB), against Pillow's
full decode and the same filter (bicubic, antialiased): to one size, and to the three of isic2019 in settings/full.yaml,
which each decodes once. Both in seconds of one processor. Colour: lesions/color.py against the formula in plain numpy,
on 256² pixels, on one processor, and as stages/color_correct.py runs it, on all cores; Ben Graham's is that formula.
Memory and the cost of a further image: the stages as `dvc repro` runs them, on one 256² JPEG under many names; memory
of all their processes, with the pages of mapped files, which the system can take back, and without. What an image costs
the system, which finds room for it in memory and on the disk, is the machine's affair, hence what the stage's own code
takes of it as well. No row where further images take less than LOST. Writes 10 GB to a temporary folder
(TMPDIR), --size full 70 GB.
"""

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
import yaml
from PIL import Image

from benchmarks.common import ROOT, Row, duration, environment, figure, main, peak, ratio, timed
from lesions import color, drawing, isic, params, photographs
from lesions.cores import in_order, usable
from lesions.files import array_of_rows
from stages import color_correct

SIDE = 256
ALL = 25_331  # images of ISIC 2019
LOST = 1.0  # seconds: what further images take is lost below in what else a run does
TELLING = 1_000  # files: fewer are not worth the runs


@dataclass(frozen=True)
class Size:
    jpegs: int
    side: int  # of the JPEGs
    rounds: int
    colours: int  # images
    counts: tuple[int, ...]  # files, for memory and cost


SIZES = {
    "small": Size(2, 512, 2, 32, (20, 60, 100)),
    "usual": Size(8, 1024, 5, 2_750, (1_000, 6_000, 11_000)),
    "full": Size(12, 1024, 5, 4_000, (1_000, 10_000, 100_000)),
}


def jpeg(number: int, side: int) -> bytes:
    """A drawn lesion as a square JPEG."""
    picture = drawing.photograph(drawing.lesion("NV", 0, number), "BCN", 0, number, 0).picture
    large = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(number).normal(0, 4, large.shape)
    content = io.BytesIO()
    Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=92)
    return content.getvalue()


def resized_by_pillow(content: bytes, sides: Iterable[int] = (SIDE,)) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for side in sides]


def resizing(size: Size, folder: Path) -> list[Row]:
    contents = [jpeg(number, size.side) for number in range(size.jpegs)]
    archive = write_zip(folder / "jpegs.zip", contents)
    members, n = zipfile.ZipFile(archive).namelist(), f"{size.rounds} rounds of {size.jpegs} JPEGs of {size.side}²"
    rows = []
    torch.set_num_threads(1)
    for sides in ((SIDE,), (SIDE, 64, 224)):
        arrays = {f"a{side}": {"size": (side, side), "fit": "squeeze"} for side in sides}
        setting, opened = params.Resize(crop_border=False, arrays=arrays), zipfile.ZipFile(archive)

        def ours(setting=setting, opened=opened) -> list[dict[str, np.ndarray]]:
            images = (photographs.decode(*photographs.read(opened, member)) for member in members)
            return [photographs.prepare(image, None, setting) for image in images]

        def pillow(sides=sides) -> list[list[np.ndarray]]:
            return [resized_by_pillow(content, sides) for content in contents]

        seconds = timed({"ours": ours, "pillow": pillow}, size.rounds, clock=process_time)
        each = {name: duration(float(np.median(found)) / size.jpegs) for name, found in seconds.items()}
        what = f"decode and resize to {', '.join(f'{side}²' for side in sides)}, one core"
        rows.append(
            ratio(what, seconds["pillow"], seconds["ours"], each["ours"], f"Pillow {each['pillow']}", n, at_least=3)
        )
        pairs = [zip(a.values(), b, strict=True) for a, b in zip(ours(), pillow(), strict=True)]
        difference = np.concatenate([np.abs(a.astype(int) - b).ravel() for pair in pairs for a, b in pair])
        rows.append(figure("– largest difference from Pillow's", [difference.max()], "levels", n, at_most=1))
        rows.append(figure("– mean difference", [difference.mean()], "levels", n))
    return rows


def plain(image: np.ndarray, name: str, p: float) -> np.ndarray:
    """The formula of study C in numpy: I / (√3 e), e over the pixels that are neither saturated nor black."""
    brightest = image.max(axis=-1)
    pixels = image[(brightest < color.SATURATED) & (brightest >= color.BLACK)] / 255
    illuminant = pixels.max(axis=0) if name == "max_rgb" else (pixels**p).mean(axis=0) ** (1 / p)
    illuminant = illuminant / np.linalg.norm(illuminant)
    return np.clip(np.rint(image / (np.sqrt(3) * illuminant)), 0, 255).astype(np.uint8)


def colours(size: Size, folder: Path) -> list[Row]:
    rows, cores = [], usable()
    images = np.concatenate([resized_by_pillow(jpeg(number, size.side)) for number in range(size.jpegs)])
    many, path = np.resize(images, (size.colours, *images.shape[1:])), folder / "classify.npy"
    np.save(path, many)
    for name, p in {"max_rgb": 0, "gray_world": 1, "shades_of_gray": 6}.items():
        setting = params.ShadesOfGray(p=max(p, 1))
        method = color.method(name, setting)

        def ours(method=method) -> list[np.ndarray]:
            return [method(image) for image in images]

        def stage(name=name, setting=setting) -> None:
            with array_of_rows(folder / "corrected.npy", many.shape) as put:
                make = partial(color_correct.correcting, path, name, setting, put)
                list(in_order(make, range(0, len(many), color_correct.PART), cores))

        def numpy(name=name, p=p, images=images) -> list[np.ndarray]:
            return [plain(image, name, p) for image in images]

        seconds = timed({"ours": ours, "numpy": numpy}, size.rounds, clock=process_time)
        each = {who: duration(float(np.median(found)) / len(images)) for who, found in seconds.items()}
        n = f"{size.rounds} rounds of {len(images)} images"
        rows.append(
            ratio(f"{name}, 256², one core", seconds["numpy"], seconds["ours"], each["ours"], f"numpy {each['numpy']}",
                  n)
        )  # fmt: skip
        unequal = np.count_nonzero(np.array(ours()) != np.array(numpy()))
        rows.append(figure("– bytes that differ", [unequal], "bytes", n, at_most=0))
        seconds = timed({"ours": stage, "numpy": partial(numpy, images=many)}, size.rounds)
        each = {who: duration(float(np.median(found)) / len(many)) for who, found in seconds.items()}
        rows.append(
            ratio(f"– as the stage runs it, {cores} cores", seconds["numpy"], seconds["ours"], each["ours"],
                  f"numpy {each['numpy']}", f"{size.rounds} rounds of {len(many)} images", at_least=10)
        )  # fmt: skip
    return rows


def write_zip(path: Path, contents: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{path.stem}/ISIC_{number:07d}.jpg", content)
    return path


def stages(size: Size, folder: Path) -> list[Row]:
    """The two stages on more and more files: peak memory, and the cost of an image, which is timed in runs of its own:
    looking at memory takes the longer the more of it there is."""
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    chosen["resize"]["isic2019"]["arrays"]["classify"]["size"] = [SIDE, SIDE]
    content, folders = jpeg(0, SIDE), {count: folder / str(count) for count in size.counts}
    for count, path in folders.items():
        write_zip(path / "data/raw" / isic.IMAGES_2019, [content] * count)
        (path / "params.yaml").write_text(yaml.safe_dump(chosen))
        (path / "data/sorted").mkdir()
        lines = ["image", *(f"ISIC_{number:07d}" for number in range(count))]
        (path / "data/sorted/isic2019.csv").write_text("\n".join(lines) + "\n")
    rows = []
    for stage, arguments in {"resize": ["isic2019"], "color_correct": ["isic2019", "max_rgb"]}.items():
        command = [sys.executable, "-m", f"stages.{stage}", *arguments]
        rows += memory(stage, command, folders)
        if max(folders) >= TELLING:
            rows += cost(stage, command, folders, size.rounds)
    return rows


def memory(stage: str, command: list[str], folders: dict[int, Path]) -> list[Row]:
    """The stage's peak in the folder of each count of files, and what it would be for ALL."""
    counts = list(folders)
    held = np.array([peak(command, path) for path in folders.values()]) / 1e9
    at, rows = " / ".join(f"{count:,}" for count in counts), []
    for what, values in zip(("peak memory", "– without mapped pages"), held.T, strict=True):
        slope = (values[-1] - values[0]) / (counts[-1] - counts[0])
        shown = " / ".join(f"{value:.2f}" for value in values)
        expected = values[-1] + max(slope, 0) * max(ALL - counts[-1], 0)
        rows.append(Row(f"{what}, {stage}, {ALL:,} images", f"{shown} GB at {at}", "–", expected, expected, expected,
                        "1 run each, then a line", "GB", at_most=1.5))  # fmt: skip
    return rows


def cost(stage: str, command: list[str], folders: dict[int, Path], rounds: int) -> list[Row]:
    """What a further image takes from the second to the third count of files, over from the first to the second; of
    stages that have run in these folders before (`memory`). None where either takes less than LOST."""
    where = {"env": environment(), "check": True, "stdout": subprocess.DEVNULL}
    runs = {count: partial(subprocess.run, command, cwd=path, **where) for count, path in folders.items()}
    seconds = timed(runs, rounds, warm=0, clock=lambda: np.array([perf_counter(), os.times().children_user]))
    steps = {(a, b): (seconds[b] - seconds[a]) / (b - a) for a, b in pairwise(folders)}
    rows = []
    for column, what in enumerate((f"a further image, {stage}", "– of it the processors' time in its own code")):
        first, then = [each[:, column] for each in steps.values()]
        medians = {step: float(np.median(each[:, column])) for step, each in steps.items()}
        if any(median * (b - a) < LOST for (a, b), median in medians.items()):
            continue
        shown = [f"{a:,} to {b:,}: {duration(median)}" for (a, b), median in medians.items()]
        rows.append(ratio(what, then, first, shown[1], shown[0], f"{rounds} rounds", at_most=1.1))
    return rows


def rows(size: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = SIZES[size]
        return [*resizing(chosen, Path(folder)), *colours(chosen, Path(folder)), *stages(chosen, Path(folder))]


if __name__ == "__main__":
    main(__doc__, rows)
