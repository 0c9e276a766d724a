"""Make pixels of a file: look at its header, decode it, turn it upright, resize it as the pipeline does."""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SMALLEST = 8  # pixels of a side
SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
BROKEN = (
    OSError, EOFError, ValueError, RuntimeError, SyntaxError, LookupError, ArithmeticError, TypeError, AttributeError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
Size = tuple[int, int]  # height, width


class ImageError(ValueError):
    """Say in one sentence why a picture cannot be predicted; `status` is HTTP's."""

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status


def opened(content: bytes, mpx: float) -> Image.Image:
    """Open a JPEG or PNG by its header; no pixel is decoded. Raises ImageError for more than `mpx` million pixels."""
    if not content.startswith(tuple(SIGNATURES.values())):
        raise ImageError("neither JPEG nor PNG", 415)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # an error below
            image = Image.open(io.BytesIO(content), formats=tuple(SIGNATURES))
        animated = image.format == "PNG" and getattr(image, "is_animated", False)
    except Image.DecompressionBombError:
        raise ImageError(f"more than {mpx:g} million pixels") from None
    except UnidentifiedImageError:
        raise ImageError("not a readable image") from None
    except BROKEN as error:
        raise ImageError(f"not a readable image ({error})") from None
    if image.width * image.height > mpx * 1e6:
        raise ImageError(f"{image.width}×{image.height}: more than {mpx:g} million pixels")
    if min(image.size) < SMALLEST:
        raise ImageError(f"{image.width}×{image.height}: fewer than {SMALLEST} pixels a side")
    if animated:
        raise ImageError("an animation")
    return image


def decoded(content: bytes, mpx: float) -> Image.Image:
    """Return the picture as RGB, upright as its EXIF says. Raises ImageError if it cannot be read to its end."""
    image = opened(content, mpx)
    try:
        image.load()
        if image.mode.startswith("I"):  # 16 bits
            levels = np.asarray(image, dtype=np.int64) >> 8
            image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
        return ImageOps.exif_transpose(image).convert("RGB")
    except BROKEN as error:
        raise ImageError(f"not a readable image ({error})") from None


def box(width: int, height: int, size: Size, fit: str) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of what the model sees of a picture: `squeeze` all, `crop` the largest centred
    part that has the aspect of `size`."""
    if fit == "squeeze":
        return 0, 0, width, height
    scale = max(size[0] / height, size[1] / width)
    rows, columns = round(size[0] / scale), round(size[1] / scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    return left, top, left + columns, top + rows


def fitted(image: Image.Image, size: Size, fit: str) -> tuple[np.ndarray, list[float]]:
    """Return uint8 H×W×3 of an RGB image, and what the model sees of it: left, top, right, bottom in 0..1."""
    seen = box(image.width, image.height, size, fit)
    pixels = np.asarray(image.crop(seen).resize((size[1], size[0]), Image.Resampling.BICUBIC))
    sides = (image.width, image.height) * 2
    return pixels, [round(at / side, 4) for at, side in zip(seen, sides, strict=True)]


def read(content: bytes | None, mpx: float, size: Size, fit: str) -> tuple[np.ndarray, list[float]] | str:
    """Return a file's picture as `fitted` does, or the reason that there is none."""
    if content is None:
        return "its picture is gone"
    try:
        return fitted(decoded(content, mpx), size, fit)
    except ImageError as error:
        return str(error)
