"""Find the places of data.source's files."""

from pathlib import Path

from lesions.core.errors import InputError
from lesions.download.fetch import is_url, unpacked
from lesions.isic.names import FILES_2020

OFFICIAL = (
    "https://isic-archive.s3.amazonaws.com/challenges",
    "https://isic-challenge-data.s3.amazonaws.com",  # until 2025
)


def bases(source: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the URLs or the folder below which <year>/ has the `wanted` files of data.source; the best comes first."""
    if source == "isic":
        return OFFICIAL
    if is_url(source):
        return (source,)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"params.yaml: data.source: {source!r} is not sample, isic, an http(s) URL or a folder's path")
    for file in wanted:  # before gigabytes are copied
        if not (folder / file).is_file() and not unpacked(folder / file).is_dir():
            way_out = "; without them, set data.isic2020 to false" if file in FILES_2020 else ""
            if inner := next(folder.glob(f"*/{file}"), None) or next(folder.glob(f"*/{unpacked(Path(file))}"), None):
                way_out = f"; say {str(folder / inner.relative_to(folder).parts[0])!r}, which has it"
            laid_out = "laid out as <year>/<file>" if "/" in file else f"which has {file}, zipped or unpacked"
            raise InputError(f"{folder / file}: not found; data.source must be a folder {laid_out}{way_out}")
    return (str(folder),)
