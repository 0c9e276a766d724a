"""Preparing images: decode and resize, colour constancy, memory.

Resize: what stages/resize.py does with one JPEG of 1024² (a drawn lesion with noise, about 200 kB), against Pillow's
full decode and the same filter (bicubic, antialiased). Colour: lesions/color.py against the formula in plain numpy, on
256² pixels; Ben Graham's is that formula. Both in seconds of one processor. Memory and cost an image: the stages as
`dvc repro` runs them, on one 256² JPEG under many names: resident memory with the pages of mapped arrays, which the
system can take back, and without. --size full writes 45 GB to the temporary folder.
"""

import io
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np
import yaml
from PIL import Image

from benchmarks.common import ROOT, Row, duration, figure, main, peak, ratio, timed
from lesions import color, drawing, isic, params
from stages import resize

SIDE = 256
ALL = 25_331  # images of ISIC 2019


@dataclass(frozen=True)
class Size:
    jpegs: int
    side: int  # of the JPEGs
    rounds: int
    counts: tuple[int, ...]  # files, for memory and cost


SIZES = {
    "small": Size(2, 512, 2, (20, 60)),
    "usual": Size(8, 1024, 5, (500, 2_000)),
    "full": Size(12, 1024, 7, (1_000, 10_000, 100_000)),
}


def jpeg(number: int, side: int) -> bytes:
    """A drawn lesion as a square JPEG."""
    picture = drawing.photograph(drawing.lesion("NV", 0, number), "BCN", 0, number, 0).picture
    large = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(number).normal(0, 4, large.shape)
    content = io.BytesIO()
    Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=92)
    return content.getvalue()


def resized_by_pillow(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def resizing(size: Size, folder: Path) -> list[Row]:
    contents = [jpeg(number, size.side) for number in range(size.jpegs)]
    archive = write_zip(folder / "jpegs.zip", contents)
    members = zipfile.ZipFile(archive).namelist()
    chosen = params.Resize(crop_border=False, arrays={"classify": {"size": (SIDE, SIDE), "fit": "squeeze"}})
    resize.start({"": archive}, None, chosen)

    def ours() -> list[np.ndarray]:
        return [resize.prepare(("", member, None))["classify"] for member in members]

    def pillow() -> list[np.ndarray]:
        return [resized_by_pillow(content) for content in contents]

    seconds = timed({"ours": ours, "pillow": pillow}, size.rounds, clock=process_time)
    difference = np.abs(np.array(ours(), int) - np.array(pillow(), int))
    each = {name: duration(float(np.median(found)) / size.jpegs) for name, found in seconds.items()}
    n = f"{size.rounds} rounds of {size.jpegs} JPEGs of {size.side}²"
    return [
        ratio("decode and resize to 256², one core", seconds["pillow"], seconds["ours"], each["ours"],
              f"Pillow {each['pillow']}", n, at_least=3),
        figure("– largest difference from Pillow's", [difference.max()], "levels", n, at_most=1),
        figure("– mean difference", [difference.mean()], "levels", n),
    ]  # fmt: skip


def plain(image: np.ndarray, name: str, p: float) -> np.ndarray:
    """The formula of study C in numpy: I / (√3 e), e over the pixels that are neither saturated nor black."""
    brightest = image.max(axis=-1)
    pixels = image[(brightest < color.SATURATED) & (brightest >= color.BLACK)] / 255
    illuminant = pixels.max(axis=0) if name == "max_rgb" else (pixels**p).mean(axis=0) ** (1 / p)
    illuminant = illuminant / np.linalg.norm(illuminant)
    return np.clip(np.rint(image / (np.sqrt(3) * illuminant)), 0, 255).astype(np.uint8)


def colours(size: Size) -> list[Row]:
    rows = []
    images = [resized_by_pillow(jpeg(number, size.side)) for number in range(size.jpegs)]
    for name, p in {"max_rgb": 0, "gray_world": 1, "shades_of_gray": 6}.items():
        method = color.method(name, params.ShadesOfGray(p=max(p, 1)))

        def ours(method=method) -> list[np.ndarray]:
            return [method(image) for image in images]

        def numpy(name=name, p=p) -> list[np.ndarray]:
            return [plain(image, name, p) for image in images]

        seconds = timed({"ours": ours, "numpy": numpy}, size.rounds, clock=process_time)
        each = {who: duration(float(np.median(found)) / size.jpegs) for who, found in seconds.items()}
        n = f"{size.rounds} rounds of {size.jpegs} images"
        rows.append(
            ratio(f"{name}, 256²", seconds["numpy"], seconds["ours"], each["ours"], f"numpy {each['numpy']}", n,
                  at_least=10)
        )  # fmt: skip
        unequal = np.count_nonzero(np.array(ours()) != np.array(numpy()))
        rows.append(figure("– bytes that differ", [unequal], "bytes", n, at_most=0))
    return rows


def write_zip(path: Path, contents: list[bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{path.stem}/ISIC_{number:07d}.jpg", content)
    return path


def stages(size: Size, folder: Path) -> list[Row]:
    """The two stages on more and more files: peak memory and what it would be for ALL, and the cost of an image."""
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    chosen["resize"]["isic2019"]["arrays"]["classify"]["size"] = [SIDE, SIDE]
    (folder / "params.yaml").write_text(yaml.safe_dump(chosen))
    (folder / "data/sorted").mkdir(parents=True)
    content, found = jpeg(0, SIDE), {}
    commands = {"resize": ["isic2019"], "color_correct": ["isic2019", "max_rgb"]}
    for count in size.counts:
        write_zip(folder / "data/raw" / isic.IMAGES_2019, [content] * count)
        lines = ["image", *(f"ISIC_{number:07d}" for number in range(count))]
        (folder / "data/sorted/isic2019.csv").write_text("\n".join(lines) + "\n")
        for stage, arguments in commands.items():
            found[stage, count] = peak([sys.executable, "-m", f"stages.{stage}", *arguments], folder)
    rows, few, many = [], size.counts[0], size.counts[-1]
    for stage in commands:
        for what, column in {"peak memory": 1, "– without mapped pages": 2}.items():
            values = [found[stage, count][column] / 1e9 for count in size.counts]
            slope = (values[-1] - values[0]) / (many - few)
            shown = " / ".join(f"{value:.2f}" for value in values)
            at = " / ".join(f"{count:,}" for count in size.counts)
            expected = values[-1] + max(slope, 0) * max(ALL - many, 0)
            rows.append(Row(f"{what}, {stage}, {ALL:,} images", f"{shown} GB at {at}", "–", expected, expected,
                            expected, "1 run each, then a line", "GB", at_most=1.5))  # fmt: skip
        cost = {count: found[stage, count][0] / count for count in size.counts}
        shown = " / ".join(duration(seconds) for seconds in cost.values())
        rows.append(Row(f"cost of an image, {stage}: {many:,} over {few:,}", shown, "–", *[cost[many] / cost[few]] * 3,
                        "1 run each, start included"))  # fmt: skip
    return rows


def rows(size: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        chosen = SIZES[size]
        return [*resizing(chosen, Path(folder)), *colours(chosen), *stages(chosen, Path(folder))]


if __name__ == "__main__":
    main(__doc__, rows)
