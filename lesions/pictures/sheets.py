"""Draw pictures beside each other."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from lesions.core.files import replacing

SHOWN = 12
Rows = dict[str, np.ndarray]  # name -> uint8 N×H×W×3


def before_after(before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """Draw SHOWN of uint8 N×H×W×3, evenly spread, in two rows, before above after, each at least 96 pixels high."""
    rows = np.linspace(0, len(before) - 1, SHOWN).astype(int)
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(x[rows]), axis=1) for x in (before, after)], axis=0))
    scale = max(1, 96 // before.shape[1])
    with replacing(path) as part:
        sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC).save(part, "PNG")


def beside(title: str, rows: Rows) -> Figure:
    """Draw rows of pictures, each under its name; small ones are enlarged pixel by pixel."""
    columns = max(1, *(len(pictures) for pictures in rows.values()))
    figure = Figure(figsize=(1.4 * columns, 1.6 * len(rows) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=11)
    lines = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, pictures) in zip(lines, rows.items(), strict=True):
        for axis in axes:
            axis.axis("off")
        for axis, picture in zip(axes, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
        axes[0].set_title(name, fontsize=9, loc="left")
    return figure
