"""Read params.yaml section by section; an unknown key, a wrong type or a value out of range gives an error of one line.

Each wing's config.py has the schemas of its own sections. A stage reads only the sections that it names; dvc.yaml
declares the same ones (tests/test_dag.py). The DAG's first stage checks sections against each other.
"""

import os
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from lesions.core.errors import InputError, nearest

PARAMS = Path("params.yaml")


def compared(name: str) -> str:
    """Return the name. Raises ValueError for the two keys that DVC leaves out when it looks for an earlier run."""
    if name in ("size", "nfiles"):
        raise ValueError("DVC does not compare keys of this name, and would restore an older run; choose another")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$"), AfterValidator(compared)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Rate = Annotated[float, Field(gt=0, le=10)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Size = Annotated[int, Field(ge=8, le=4096)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def read_yaml(path: Path) -> Any:
    """Return the content of the YAML file at `path` as plain Python objects. Raises InputError naming the line."""
    try:
        return YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the repository's root") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = (error.problem or error.context or "not YAML").splitlines()[0]
        raise InputError(f"{path}: line {mark.line + 1 if mark else '?'}: {said}") from None
    except Exception as error:  # ruamel raises errors of many kinds for a value that does not fit its tag
        raise InputError(f"{path}: not YAML: {type(error).__name__}: {str(error)[:200]}") from None


def validated(schema: Any, raw: Any, path: Path, where: str = "") -> Any:
    """Return `raw`, the value of the key `where` in `path`, as `schema`. Raises InputError naming what is wrong."""
    try:
        return TypeAdapter(schema).validate_python(raw)
    except ValidationError as error:
        found = error.errors(include_url=False)
        unknown = (one for one in found if one["type"] == "extra_forbidden")  # first: it may be a missing key, misspelt
        first = next(unknown, found[0])
        key = ".".join(str(part) for part in (*filter(None, [where]), *first["loc"]))
        what = {"extra_forbidden": "unknown key", "missing": "missing"}.get(first["type"], first["msg"])
        if first["type"] == "extra_forbidden":
            *parents, last = first["loc"]
            what += nearest(str(last), getattr(inside(schema, parents), "model_fields", ()))
        given = "" if first["type"] in ("missing", "value_error") else f" (got {reprlib.repr(first['input'])})"
        raise InputError(f"{path}: {key + ': ' if key else ''}{what.removeprefix('Value error, ')}{given}") from None


def inside(schema: Any, keys: Sequence[int | str]) -> Any:
    """Return the schema of what lies under `keys` (a, b, c) in something of that schema; None where it has none."""
    for key in keys:
        args = get_args(schema)
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            schema = getattr(schema.model_fields.get(str(key)), "annotation", None)
        elif get_origin(schema) is dict:
            schema = args[1]
        else:
            schema = args[0] if args else None
    return schema


def section(key: str, path: Path = PARAMS) -> Any:
    """Return the value of `key` (a.b.c) in `path`, not validated.

    lesions/tools/verify.py sets LESIONS_DECLARED to the keys that dvc.yaml declares; then no other key can be read.
    """
    declared = os.environ.get("LESIONS_DECLARED")
    if declared is not None and not any(f"{key}.".startswith(f"{name}.") for name in declared.split()):
        raise InputError(f"params.yaml: {key}: read by a stage whose params in dvc.yaml do not name it; add it")
    found, names = read_yaml(path), key.split(".")
    for place, name in enumerate(names):
        if not isinstance(found, dict) or name not in found:
            above = ".".join(names[:place])
            there = nearest(name, found) if isinstance(found, dict) else ""
            raise InputError(f"{path}: {above + ': ' if above else ''}no {name!r}{there}")
        found = found[name]
    return found


def read(key: str, schema: Any, path: Path = PARAMS) -> Any:
    """Return the value of `key` in `path` as `schema`: a Section or any other type that pydantic knows."""
    return validated(schema, section(key, path), path, key)
