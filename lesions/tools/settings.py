"""Lay a file of settings over params.yaml, key by key; what it does not name stays, what it sets to null goes.

    python -m lesions.tools.settings settings/full.yaml

Its key `over: NAME` lays settings/NAME.yaml under it first. The result is checked before it is written. params.yaml
loses its comments: git checkout params.yaml brings them back.
"""

import argparse
from functools import reduce
from pathlib import Path

import yaml

from lesions.core import config
from lesions.core.errors import InputError, nearest, run
from lesions.core.files import replacing
from lesions.tools import check


def overlaid(base: dict, over: dict) -> dict:
    """Lay `over` over `base`: dictionaries key by key, everything else replaced, None removed."""
    both = dict(base)
    for key, value in over.items():
        inner = both.get(key)
        both[key] = overlaid(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return {key: value for key, value in both.items() if value is not None}


def read(path: Path) -> dict:
    found = config.read_yaml(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected sections of params.yaml")
    return found


def layers(path: Path) -> list[dict]:
    """Return the settings of the file at `path`, behind those of the file beside it that its key `over` names."""
    found = read(path)
    if (under := found.pop("over", None)) is None:
        return [found]
    there = sorted(each.stem for each in path.parent.glob("*.yaml") if each != path)
    if under not in there:
        raise InputError(f"{path}: over: {under!r}{nearest(str(under), there)}")
    below = path.with_name(f"{under}.yaml")
    if "over" in read(below):
        raise InputError(f"{path}: over: {under} lies over another itself; expected one that does not")
    return [read(below), found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    found = reduce(overlaid, [read(args.params), *layers(args.settings)])
    with replacing(args.params) as part:
        part.write_text(yaml.safe_dump(found, sort_keys=False, width=160), encoding="utf-8")
        try:
            check.load(part)
        except InputError as error:
            told = str(error).replace(str(part), str(args.settings))
            way_out = f"if {args.params} has other settings in it already, git checkout {args.params} first"
            raise InputError(f"{told}; {way_out}") from None


if __name__ == "__main__":
    run(main)
