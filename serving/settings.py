"""Read what can be set, from environment variables LESIONS_<NAME>; docs/platform.md lists them."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

LOG = "%(asctime)s %(levelname)s %(message)s"
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (str, int, float)}


class InputError(Exception):
    """Say in one line what a person can mend: a setting, a folder, a model."""


@dataclass(frozen=True)
class Settings:
    """Limits are inclusive; a megabyte has 10⁶ bytes, times are in seconds."""

    queue: str = "sqlite:///.serving/tasks.sqlite"  # of SQLAlchemy: sqlite:///… or postgresql+psycopg://…
    models: str = "models/served:released"  # folders of models; of two with one name the first counts
    token: str = ""  # what `Authorization: Bearer …` must have; empty: nothing is asked
    hosts: str = "*"  # names that a request may call this server by
    image_mb: float = 10
    image_mpx: float = 50
    request_mb: float = 500
    request_images: int = 1000
    uploads: int = 32  # requests that one process receives at a time
    queued_images: int = 20_000
    queued_mb: float = 5000
    keep: float = 3600  # a task without a new result for so long expires
    lease: float = 30  # a worker that is not heard of for so long loses its images to others
    tries: int = 3  # for an image
    batch: int = 8  # images at a time
    threads: int = 0  # of a worker's model; 0: as many as there are cores

    @property
    def folders(self) -> list[Path]:
        return [Path(folder) for folder in self.models.split(os.pathsep) if folder]


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings. Raises InputError for a value that is no number, or not above 0, where one is asked for."""
    told: dict[str, Any] = {}
    for field in fields(Settings):
        name = f"LESIONS_{field.name.upper()}"
        if name not in environment:
            continue
        text, kind = environment[name], KINDS[getattr(field.type, "__name__", "")]
        try:
            told[field.name] = kind(text)
        except ValueError:
            raise InputError(f"{name}={text}: expected {'a whole number' if kind is int else 'a number'}") from None
        least = 0 if field.name == "threads" else 1e-9
        if kind is not str and not told[field.name] >= least:
            raise InputError(f"{name}={text}: expected more than 0")
    return Settings(**told)


def run(main: Callable[[], None]) -> None:
    """Call `main`; an InputError becomes one line and exit status 1."""
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
