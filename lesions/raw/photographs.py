"""Read photographs and masks from their archives, decode, crop and resize them.

simplejpeg decodes to the same bytes as Pillow, torch resizes to within one level of Pillow's bicubic, and both together
take less than half the time (docs/results/bench.md). A JPEG that simplejpeg refuses goes to Pillow.
"""

import io
import warnings
import zipfile
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
from lesions.raw.zips import BROKEN

SMALLEST, LARGEST = 8, 1e8  # pixels: of a side, of an image (ISIC's have up to 3e7)
PILLOWS = (*BROKEN, SyntaxError, LookupError, ArithmeticError, TypeError, AttributeError, Image.DecompressionBombError)


def read(archive: zipfile.ZipFile, member: str) -> tuple[bytes, str]:
    """Return a member's content, and the name that errors give it. Raises InputError for a damaged one."""
    name = f"{archive.filename}: {member}"
    try:
        return archive.read(member), name
    except BROKEN as error:
        raise InputError(f"{name}: damaged ({error}); download it again") from None


def opened(content: bytes) -> Image.Image:
    """Open a JPEG or PNG by its header; no pixel is decoded yet. Raises ValueError or an error of Pillow's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # an error below
        image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG"))  # no other reader is worth its risk
    if min(image.size) < SMALLEST or image.width * image.height > LARGEST:
        raise ValueError(f"{image.width}×{image.height} pixels; a photograph has {SMALLEST} a side to {LARGEST:.0e}")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise ValueError("an animation")
    return image


def decode(content: bytes, name: str) -> np.ndarray:
    """Return uint8 H×W×3 of a JPEG or PNG of any name, converted from CMYK, grey, palette, alpha (dropped) or 16 bits.

    Pixels stay in the order in which they are stored; an EXIF orientation is not applied, as ISIC's masks fit the
    stored order. Of a JPEG with several pictures (MPO) the first counts. Raises InputError naming the image if it
    cannot be read to its end, is animated, or has fewer than SMALLEST or more than LARGEST pixels.
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
    if image.mode.startswith("I"):  # 16 bits; of colour Pillow has taken the upper eight already
        levels = np.asarray(image, dtype=np.int64)
        if 0 < levels.max() < 256:
            raise InputError(f"{name}: 16 bits a pixel, but no level above {levels.max()}; save it with 8 bits")
        image = Image.fromarray(np.clip(levels >> 8, 0, 255).astype(np.uint8))
    pixels = np.array(image.convert("RGB"))  # a copy that can be written, as torch wants it
    if content[24:25] == b"\x10" and content[1:4] == b"PNG" and image.mode.startswith("RGB") and not pixels.any():
        raise InputError(f"{name}: colour of 16 bits a channel, black in its upper eight; save it with 8 bits")
    return pixels


def luma(image: np.ndarray) -> np.ndarray:
    """Return the grey levels, uint8 H×W, of uint8 H×W×3."""
    return np.asarray(Image.fromarray(image).convert("L"))


def decode_mask(content: bytes, name: str, size: Size) -> np.ndarray:
    """Return a mask file as uint8 H×W of 0 and 255, foreground > 128 as in the official scoring; `size` is its image's.

    Raises InputError for another size, and for a mask whose brightest level is 1 to 128, such as one of 0 and 1.
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
    """Resize uint8 H×W×3 or H×W to `size`, height × width: bicubic with antialiasing.

    how: `squeeze` takes the whole image; `crop` the largest centred part that has the aspect of `size`.
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
    """Resize a mask of 0 and 255, as `fit`, to uint8 height×width of 0 and 1 (at least half of the pixel is lesion)."""
    return (fit(mask, size, how) >= 128).astype(np.uint8)


def prepare(image: np.ndarray, mask: np.ndarray | None, resize: Resize) -> dict[str, np.ndarray]:
    """Return {array: uint8 height×width×3} of a decoded image, or of its lit box if crop_border says so, for each array
    of `resize`; if it has a mask (0 and 255), {array_masks: uint8 height×width of 0 and 1} too."""
    if resize.crop_border:
        left, top, right, bottom = lit_box(image)
        image = image[top:bottom, left:right]
        mask = None if mask is None else mask[top:bottom, left:right]
    ready = {name: fit(image, array.shape, array.fit) for name, array in resize.arrays.items()}
    if mask is not None:
        ready |= {f"{name}_masks": fit_mask(mask, array.shape, array.fit) for name, array in resize.arrays.items()}
    return ready


def otsu(grey: np.ndarray) -> int:
    """Return Otsu's threshold of a uint8 image: the level that makes the variance between the two sides largest."""
    counts = np.bincount(grey.ravel(), minlength=256).astype(float)
    levels = np.arange(256)
    below, total = counts.cumsum(), counts.sum()
    sums = (counts * levels).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below - sums * total) ** 2 / (below * (total - below))
    between = np.where(np.isfinite(between), between, -1)
    return int(np.flatnonzero(between == between.max()).mean())  # the middle, if several levels are as good


def lit_box(image: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box (left, top, right, bottom) of the lit circle in an image with a black border, else of all of it.

    As the winner of ISIC 2019 did: threshold at 0.2 × Otsu's, take the largest blob's box, and cut 10 % off each side.
    The box counts only if the mean outside the blob is at most 0.3 of the mean inside.
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
