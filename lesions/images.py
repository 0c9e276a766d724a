"""Photographs: decoded to RGB whatever their mode, cropped, resized with antialiasing."""

import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from lesions.errors import InputError

Size = tuple[int, int]  # height, width
SMALLEST, LARGEST = 8, 1e8  # pixels of a side, of an image; ISIC's have up to 3e7
BROKEN = (OSError, EOFError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)  # of damaged bytes
PILLOWS = (*BROKEN, SyntaxError, LookupError, ArithmeticError, TypeError, AttributeError, Image.DecompressionBombError)


def decode(content: bytes, name: str) -> Image.Image:
    """A JPEG or PNG, whatever its name, as an 8-bit RGB image: CMYK, grey, palette, alpha (dropped), 16-bit converted.

    The pixels stay as they are stored, and an EXIF orientation is not applied: so ISIC's masks lie on them. Of a JPEG
    with further pictures behind it (MPO) the first counts. Raises InputError naming the image if it cannot be read to
    its end, is animated, or has fewer than SMALLEST or more than LARGEST pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # told below
            image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))  # no other reader is worth its risk
        if min(image.size) < SMALLEST or image.width * image.height > LARGEST:
            raise ValueError(
                f"{image.width}×{image.height} pixels; a photograph has {SMALLEST} a side to {LARGEST:.0e}"
            )
        if image.format == "PNG" and getattr(image, "is_animated", False):
            raise ValueError("an animation")
        image.load()
    except PILLOWS as error:
        reason = "no such content" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(
            f"{name}: not a readable image ({reason}); expected a whole JPEG or PNG: fetch it again"
        ) from None
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        image = Image.fromarray(grey)
    return image.convert("RGB")


def decode_mask(content: bytes, name: str, size: Size) -> Image.Image:
    """A mask file as a single-channel image, foreground > 128 as in the official scoring; `size` is its image's.

    Raises InputError for another size, and for a mask with nothing but levels up to 128, such as 0 and 1.
    """
    mask = decode(content, name).convert("L")
    if (mask.height, mask.width) != size:
        raise InputError(
            f"{name}: mask of {mask.height}×{mask.width} for an image of {size[0]}×{size[1]}; expected equal"
        )
    brightest = mask.getextrema()[1]
    if 0 < brightest <= 128:
        raise InputError(f"{name}: brightest level {brightest}; expected 255 for lesion and 0 for the rest")
    return mask.point(lambda value: 255 * (value > 128))


def read(archive: zipfile.ZipFile, member: str) -> tuple[bytes, str]:
    """A member's content and the name to blame it by. Raises InputError for a damaged one."""
    name = f"{archive.filename}: {member}"
    try:
        return archive.read(member), name
    except BROKEN as error:
        raise InputError(f"{name}: damaged ({error}); download it again") from None


def fit(image: Image.Image, size: Size, how: str) -> np.ndarray:
    """Bicubic with antialiasing: `squeeze` to height × width, or `crop`: shorter side to fit, then the centre.

    Returns uint8 height×width×3, or height×width for a single-channel image.
    """
    height, width = size
    if how == "squeeze":
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    scale = max(height / image.height, width / image.width)
    crop_height, crop_width = height / scale, width / scale
    top, left = (image.height - crop_height) / 2, (image.width - crop_width) / 2
    box = (left, top, left + crop_width, top + crop_height)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def resized(images: np.ndarray, size: Size) -> np.ndarray:
    """uint8 N×H×W×3 at `size`; the same array where that is its size."""
    if images.shape[1:3] == tuple(size):
        return images
    return np.array([fit(Image.fromarray(image), size, "squeeze") for image in images], np.uint8).reshape(-1, *size, 3)


def before_after(before: np.ndarray, after: np.ndarray, shown: int = 12) -> Image.Image:
    """`shown` images, evenly spread, in two rows, before above after; uint8 N×H×W×3 each, 96 pixels high at least."""
    rows = np.linspace(0, len(before) - 1, shown).astype(int)
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(x[rows]), axis=1) for x in (before, after)], axis=0))
    scale = max(1, 96 // before.shape[1])
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC)


def fit_mask(mask: Image.Image, size: Size, how: str) -> np.ndarray:
    """As `fit`, for a mask: uint8 height×width of 0 and 1; a pixel is lesion if at least half of its area is."""
    return (fit(mask, size, how) >= 128).astype(np.uint8)


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


def lit_box(image: Image.Image) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) of the lit circle in an image with a black border, else the whole image.

    After the winner of ISIC 2019 (FACTS): threshold at 0.2 × Otsu, largest blob, its box less a margin of 10 %;
    taken only where the mean outside is at most 0.3 of the mean inside.
    """
    whole = (0, 0, image.width, image.height)
    grey = np.asarray(image.convert("L"))
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
