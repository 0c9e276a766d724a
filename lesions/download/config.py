"""Define the section weights of params.yaml and where files are kept; refuse a source that is one of these folders."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lesions.core.errors import InputError

# A name without dots (DVC refuses them) → its source: lesions/download/weights.py says which kinds there are.
Source = Annotated[str, Field(pattern=r"^(package|torchvision|timm|keras|file):.")]
Weights = dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], Source]

RAW = Path("data/raw")
STORE = Path(os.path.relpath(os.environ.get("DVC_ROOT", "."))) / ".download"  # also of `dvc exp run --temp`


def refuse_links() -> None:
    """Raise InputError if data or data/raw is a link: DVC replaces outputs, and would lose its way."""
    for folder in (RAW, *RAW.parents[:-1]):
        if folder.is_symlink():
            raise InputError(
                f"{folder}: a link; stages replace what lies there. To use a larger disk make it a folder, link "
                f"{STORE} and .dvc/cache to that disk, and say dvc config cache.type symlink"
            )


def refuse_own(source: str) -> None:
    """Raise InputError if data.source is a folder that the stage download fills, or lies in or around one."""
    folder = Path(source).expanduser().resolve()
    for ours in (RAW, STORE):
        if folder.is_relative_to(ours.resolve()) or ours.resolve().is_relative_to(folder):
            raise InputError(
                f"params.yaml: data.source: {source!r} is, holds or lies in {ours}, which the stage download fills; "
                f"say isic to use the archives that lie in {RAW}, or name a folder of their own"
            )
