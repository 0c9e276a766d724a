"""Draw pictures beside each other."""

from pathlib import Path

import numpy as np
from PIL import Image

from lesions.core.files import replacing

SHOWN = 12


def before_after(before: np.ndarray, after: np.ndarray, path: Path) -> None:
    """Draw SHOWN of uint8 N×H×W×3, evenly spread, in two rows, before above after, each at least 96 pixels high."""
    rows = np.linspace(0, len(before) - 1, SHOWN).astype(int)
    sheet = Image.fromarray(np.concatenate([np.concatenate(list(x[rows]), axis=1) for x in (before, after)], axis=0))
    scale = max(1, 96 // before.shape[1])
    with replacing(path) as part:
        sheet.resize((sheet.width * scale, sheet.height * scale), Image.Resampling.BICUBIC).save(part, "PNG")
