"""Pictures shown beside each other."""

import numpy as np
from PIL import Image


def before_after(before: np.ndarray, after: np.ndarray, shown: int = 12) -> Image.Image:
    """`shown` images, evenly spread, in two rows, before above after; uint8 N×H×W×3 each, 96 pixels high at least."""
    rows = np.linspace(0, len(before) - 1, shown).astype(int)
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(x[rows]), axis=1) for x in (before, after)], axis=0))
    scale = max(1, 96 // before.shape[1])
    return sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC)
