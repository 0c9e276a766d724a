"""Time the preparation of images: decode and resize, colour constancy.

Resize: what stages/resize.py does with one JPEG of 1024² (a drawn lesion with noise, about 200 kB), against Pillow's
full decode and the same filter (bicubic, antialiased): to one size, and to the three of isic2019 in settings/full.yaml,
for which each decodes once. Both in seconds of one processor. Colour: lesions/pictures/color.py against the formula in
plain numpy, on 256² pixels, on one processor, and as stages/color_correct.py runs it, on all cores. Ben Graham's method
is left out, because it is its plain formula.
"""

import io
import tempfile
import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.common import Row, duration, figure, ratio, timed
from lesions.core.files import array_of_rows
from lesions.core.workers import in_order, usable
from lesions.pictures import color
from lesions.pictures.config import ShadesOfGray
from lesions.raw import photographs
from lesions.raw.config import Array, Resize
from lesions.sample import scene
from stages import color_correct

SIDE = 256


class Size(NamedTuple):
    jpegs: int
    side: int  # of the JPEGs
    rounds: int
    colours: int  # images


SIZES = {"small": Size(2, 512, 2, 32), "usual": Size(8, 1024, 5, 2_750), "full": Size(12, 1024, 5, 4_000)}


def jpeg(number: int, side: int) -> bytes:
    """Return a drawn lesion as a square JPEG."""
    picture = scene.photograph(scene.lesion("NV", 0, number), "BCN", 0, number, 0).picture
    large = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    noise = np.random.default_rng(number).normal(0, 4, large.shape)
    content = io.BytesIO()
    Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8)).save(content, "JPEG", quality=92)
    return content.getvalue()


def by_pillow(content: bytes, sides: Iterable[int] = (SIDE,)) -> list[np.ndarray]:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for side in sides]


def resizing(size: Size, folder: Path, sides: tuple[int, ...]) -> list[Row]:
    contents = [jpeg(number, size.side) for number in range(size.jpegs)]
    with zipfile.ZipFile(folder / "jpegs.zip", "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.jpg", content)
    opened, n = zipfile.ZipFile(folder / "jpegs.zip"), f"{size.rounds} rounds of {size.jpegs} JPEGs of {size.side}²"
    arrays = {f"a{side}": Array(size=(side, side), fit="squeeze") for side in sides}
    setting = Resize(crop_border=False, arrays=arrays)
    torch.set_num_threads(1)

    def ours() -> list[dict[str, np.ndarray]]:
        images = (photographs.decode(*photographs.read(opened, member)) for member in opened.namelist())
        return [photographs.prepare(image, None, setting) for image in images]

    def pillow() -> list[list[np.ndarray]]:
        return [by_pillow(content, sides) for content in contents]

    seconds = timed({"ours": ours, "pillow": pillow}, size.rounds, clock=process_time)
    each = {name: duration(float(np.median(found)) / size.jpegs) for name, found in seconds.items()}
    what = f"decode and resize to {', '.join(f'{side}²' for side in sides)}, one core"
    pairs = [zip(a.values(), b, strict=True) for a, b in zip(ours(), pillow(), strict=True)]
    difference = max(np.abs(a.astype(int) - b).max() for pair in pairs for a, b in pair)
    return [
        ratio(what, seconds["pillow"], seconds["ours"], each["ours"], f"Pillow {each['pillow']}", n, at_least=3),
        figure("– largest difference from Pillow's", [difference], "levels", n, at_most=1),
    ]


def plain(image: np.ndarray, name: str, p: float) -> np.ndarray:
    """Correct by the formula of study C: I / (√3 e), e over the pixels that are neither saturated nor black."""
    brightest = image.max(axis=-1)
    pixels = image[(brightest < color.SATURATED) & (brightest >= color.BLACK)] / 255
    illuminant = pixels.max(axis=0) if name == "max_rgb" else (pixels**p).mean(axis=0) ** (1 / p)
    illuminant = illuminant / np.linalg.norm(illuminant)
    return np.clip(np.rint(image / (np.sqrt(3) * illuminant)), 0, 255).astype(np.uint8)


def colours(size: Size, folder: Path, name: str, p: float) -> list[Row]:
    images = np.concatenate([by_pillow(jpeg(number, size.side)) for number in range(size.jpegs)])
    many, path, setting = np.resize(images, (size.colours, SIDE, SIDE, 3)), folder / "c.npy", ShadesOfGray(p=max(p, 1))
    np.save(path, many)
    method = color.method(name, setting)

    def ours() -> list[np.ndarray]:
        return [method(image) for image in images]

    def numpy(images: np.ndarray = images) -> list[np.ndarray]:
        return [plain(image, name, p) for image in images]

    def stage() -> None:
        with array_of_rows(folder / "corrected.npy", many.shape) as put:
            make = partial(color_correct.correcting, path, name, setting, put)
            list(in_order(make, range(0, len(many), color_correct.PART), usable()))

    def row(what: str, seconds: dict[str, np.ndarray], count: int, **wanted: float) -> Row:
        one, other = (duration(float(np.median(seconds[who])) / count) for who in ("ours", "numpy"))
        n = f"{size.rounds} rounds of {count} images"
        return ratio(what, seconds["numpy"], seconds["ours"], one, f"numpy {other}", n, **wanted)

    alone = timed({"ours": ours, "numpy": numpy}, size.rounds, clock=process_time)
    together = timed({"ours": stage, "numpy": partial(numpy, many)}, size.rounds)
    unequal = np.count_nonzero(np.array(ours()) != np.array(numpy()))
    return [
        row(f"{name}, 256², one core", alone, len(images)),
        figure("– bytes that differ", [float(unequal)], "bytes", f"{len(images)} images", at_most=0),
        row(f"– as the stage runs it, {usable()} cores", together, len(many), at_least=10),
    ]


def rows(size: str) -> list[Row]:
    of = SIZES[size]
    with tempfile.TemporaryDirectory() as parent:
        found = [row for sides in ((SIDE,), (SIDE, 64, 224)) for row in resizing(of, Path(parent), sides)]
        for name, p in {"max_rgb": 0, "gray_world": 1, "shades_of_gray": 6}.items():
            found += colours(of, Path(parent), name, p)
    return found
