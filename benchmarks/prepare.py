"""Time the preparation of images: decode and resize, colour constancy.

Resize: what stages/resize.py does with one JPEG of 1024² (a drawn lesion with noise, about 200 kB), against Pillow's
full decode and the same filter (bicubic, antialiased): to one size, and to the three of isic2019 in settings/full.yaml,
for which each decodes once. Both in seconds of one processor. Colour: stages/color_correct.py on all cores against the
formula in plain numpy, on 256² pixels. Ben Graham's method is left out, because it is its plain formula.
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

from benchmarks.common import Row, ratio, timed
from lesions.core.files import array_of_rows
from lesions.core.workers import in_order, usable
from lesions.pictures import color
from lesions.pictures.config import ShadesOfGray
from lesions.raw import photographs
from lesions.raw.config import Array, Resize
from lesions.sample import scene
from stages import color_correct

SIDE = 256
POWERS = {"max_rgb": 0, "gray_world": 1, "shades_of_gray": 6}  # p of the mean; 0 for the largest


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


def resizing(size: Size, folder: Path, sides: tuple[int, ...]) -> Row:
    contents = [jpeg(number, size.side) for number in range(size.jpegs)]
    with zipfile.ZipFile(folder / "jpegs.zip", "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"{number}.jpg", content)
    opened = zipfile.ZipFile(folder / "jpegs.zip")
    arrays = {f"a{side}": Array(shape=(side, side), fit="squeeze") for side in sides}
    setting = Resize(crop_border=False, arrays=arrays)
    torch.set_num_threads(1)

    def ours() -> None:
        for member in opened.namelist():
            photographs.prepare(photographs.decode(*photographs.read(opened, member)), None, setting)

    def pillow() -> None:
        for content in contents:
            by_pillow(content, sides)

    seconds = timed({"ours": ours, "Pillow": pillow}, size.rounds, clock=process_time)
    what = f"decode and resize to {', '.join(f'{side}²' for side in sides)}, one core"
    return ratio(what, seconds, ("ours", "Pillow"), size.jpegs, "image", wanted=3)


def plain(image: np.ndarray, name: str, p: float) -> np.ndarray:
    """Correct by the formula of study C: I / (√3 e), e over the pixels that are neither saturated nor black."""
    brightest = image.max(axis=-1)
    pixels = image[(brightest < color.SATURATED) & (brightest >= color.BLACK)] / 255
    illuminant = pixels.max(axis=0) if name == "max_rgb" else (pixels**p).mean(axis=0) ** (1 / p)
    illuminant = illuminant / np.linalg.norm(illuminant)
    return np.clip(np.rint(image / (np.sqrt(3) * illuminant)), 0, 255).astype(np.uint8)


def colours(size: Size, folder: Path, name: str, p: float) -> Row:
    images = np.concatenate([by_pillow(jpeg(number, size.side)) for number in range(size.jpegs)])
    many, path = np.resize(images, (size.colours, SIDE, SIDE, 3)), folder / "c.npy"
    np.save(path, many)

    def ours() -> None:
        with array_of_rows(folder / "corrected.npy", many.shape) as put:
            make = partial(color_correct.correcting, path, name, ShadesOfGray(p=max(p, 1)), put)
            list(in_order(make, range(0, len(many), color_correct.PART), usable()))

    def numpy() -> None:
        for image in many:
            plain(image, name, p)

    seconds = timed({"ours": ours, "numpy": numpy}, size.rounds)
    return ratio(f"{name}, 256², {usable()} cores", seconds, ("ours", "numpy"), len(many), "image", wanted=10)


def rows(size: str) -> list[Row]:
    of = SIZES[size]
    with tempfile.TemporaryDirectory() as parent:
        found = [resizing(of, Path(parent), sides) for sides in ((SIDE,), (SIDE, 64, 224))]
        return found + [colours(of, Path(parent), name, p) for name, p in POWERS.items()]
