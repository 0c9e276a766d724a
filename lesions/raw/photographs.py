"""Photographs and masks: read from their archives, decoded whatever their mode, cropped, resized with antialiasing.

simplejpeg decodes to Pillow's very bytes, torch filters to within one level of Pillow's bicubic, both together in less
than half the time (docs/results/bench.md); what simplejpeg finds odd is left to Pillow's judgement.
"""

import io
import struct
import warnings
import zipfile
import zlib
from contextlib import suppress

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from scipy import ndimage
from torch.nn import functional

from lesions.core.errors import InputError
from lesions.core.images import Size
from lesions.raw.config import Resize

SMALLEST, LARGEST = 8, 1e8  # pixels of a side, of an image; ISIC's have up to 3e7
BROKEN = (OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)  # of damaged bytes
PILLOWS = (*BROKEN, SyntaxError, LookupError, ArithmeticError, TypeError, AttributeError, Image.DecompressionBombError)


def read(archive: zipfile.ZipFile, member: str) -> tuple[bytes, str]:
    """A member's content and the name to blame it by. Raises InputError for a damaged one."""
    name = f"{archive.filename}: {member}"
    try:
        return archive.read(member), name
    except BROKEN as error:
        raise InputError(f"{name}: damaged ({error}); download it again") from None


def opened(content: bytes) -> Image.Image:
    """A JPEG or PNG by its header, no pixel decoded yet. Raises ValueError or an error of Pillow's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # told below
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))  # no other reader is worth its risk
    if min(image.size) < SMALLEST or image.width * image.height > LARGEST:
        raise ValueError(f"{image.width}×{image.height} pixels; a photograph has {SMALLEST} a side to {LARGEST:.0e}")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise ValueError("an animation")
    return image


def decode(content: bytes, name: str) -> np.ndarray:
    """uint8 H×W×3 of a JPEG or PNG, whatever its name; CMYK, grey, palette, alpha (dropped) and 16 bits are converted.

    The pixels stay as they are stored, and an EXIF orientation is not applied: so ISIC's masks lie on them. Of a JPEG
    with further pictures behind it (MPO) the first counts. Raises InputError naming the image if it cannot be read to
    its end, is animated, or has fewer than SMALLEST or more than LARGEST pixels.
    """
    try:
        image = opened(content)
        if image.format != "PNG" and image.mode == "RGB":
            with suppress(ValueError):
                return simplejpeg.decode_jpeg(content, "RGB", strict=True)
        image.load()
    except PILLOWS as error:
        reason = "no such content" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(
            f"{name}: not a readable image ({reason}); expected a whole JPEG or PNG: fetch it again"
        ) from None
    if image.mode.startswith("I"):
        image = Image.fromarray(np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8))
    return np.array(image.convert("RGB"))  # a copy that can be written, as torch wants it


def luma(image: np.ndarray) -> np.ndarray:
    """uint8 H×W of uint8 H×W×3."""
    return np.asarray(Image.fromarray(image).convert("L"))


def decode_mask(content: bytes, name: str, size: Size) -> np.ndarray:
    """A mask file as uint8 H×W of 0 and 255, foreground > 128 as in the official scoring; `size` is its image's.

    Raises InputError for another size, and for a mask with nothing but levels up to 128, such as 0 and 1.
    """
    mask = luma(decode(content, name))
    if mask.shape != size:
        raise InputError(
            f"{name}: mask of {'×'.join(map(str, mask.shape))} for an image of {size[0]}×{size[1]}; expected equal"
        )
    if 0 < mask.max() <= 128:
        raise InputError(f"{name}: brightest level {mask.max()}; expected 255 for lesion and 0 for the rest")
    return 255 * (mask > 128).astype(np.uint8)


def fit(image: np.ndarray, size: Size, how: str) -> np.ndarray:
    """Bicubic with antialiasing: `squeeze` to height × width, or `crop`: of the centre, shorter side to fit.

    uint8 H×W×3 or H×W to the same at height × width.
    """
    height, width = image.shape[:2]
    if how == "crop":
        scale = max(size[0] / height, size[1] / width)
        rows, columns = round(size[0] / scale), round(size[1] / scale)
        top, left = (height - rows) // 2, (width - columns) // 2
        image = image[top : top + rows, left : left + columns]
    planes = torch.from_numpy(image).reshape(1, *image.shape[:2], -1).permute(0, 3, 1, 2)
    small = functional.interpolate(planes, size=size, mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).numpy().reshape(*size, *image.shape[2:])


def fit_mask(mask: np.ndarray, size: Size, how: str) -> np.ndarray:
    """As `fit`, for a mask of 0 and 255: uint8 height×width of 0 and 1; a pixel is lesion if at least half of it is."""
    return (fit(mask, size, how) >= 128).astype(np.uint8)


def prepare(image: np.ndarray, mask: np.ndarray | None, resize: Resize) -> dict[str, np.ndarray]:
    """{array: uint8 height×width×3} of a decoded image for each array of `resize`, with crop_border of its lit box;
    and {array_masks: uint8 height×width of 0 and 1} of its mask (0 and 255) if it has one."""
    if resize.crop_border:
        left, top, right, bottom = lit_box(image)
        image = image[top:bottom, left:right]
        mask = None if mask is None else mask[top:bottom, left:right]
    ready = {name: fit(image, array.size, array.fit) for name, array in resize.arrays.items()}
    if mask is not None:
        ready |= {f"{name}_masks": fit_mask(mask, array.size, array.fit) for name, array in resize.arrays.items()}
    return ready


def otsu(grey: np.ndarray) -> int:
    """Otsu's threshold of a uint8 image: the level that separates two classes with the largest variance between."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(float)
    levels = np.arange(256)
    below, total = counts.cumsum(), counts.sum()
    sums = (counts * levels).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below - sums * total) ** 2 / (below * (total - below))
    between = np.where(np.isfinite(between), between, -1)
    return int(np.flatnonzero(between == between.max()).mean())  # the middle of a gap


def lit_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of the lit circle in an image with a black border, else the whole image.

    After the winner of ISIC 2019 (FACTS): threshold at 0.2 × Otsu, largest blob, its box less a margin of 10 %;
    taken only where the mean outside is at most 0.3 of the mean inside.
    """
    whole = (0, 0, image.shape[1], image.shape[0])
    grey = luma(image)
    blobs, count = ndimage.label(grey > 0.2 * otsu(grey))
    if count == 0:
        return whole
    largest = 1 + int(np.argmax(np.bincount(blobs.ravel())[1:]))
    rows, columns = ndimage.find_objects(blobs)[largest - 1]
    margin_y, margin_x = (rows.stop - rows.start) // 10, (columns.stop - columns.start) // 10
    top, bottom = rows.start + margin_y, rows.stop - margin_y
    left, right = columns.start + margin_x, columns.stop - margin_x
    inside = blobs == largest
    if inside.all() or bottom - top < 8 or right - left < 8:
        return whole
    dark = grey[~inside].mean() <= 0.3 * grey[inside].mean()
    return (left, top, right, bottom) if dark and (~inside).mean() > 0.01 else whole
