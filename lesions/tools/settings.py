"""Lay files of settings over params.yaml, key by key; what they do not name stays, what they set to null goes.

    python -m lesions.tools.settings settings/full.yaml

The result is checked before it is written. params.yaml loses its comments: git checkout params.yaml brings them back.
"""

import argparse
from functools import reduce
from pathlib import Path

import yaml

from lesions.core import config
from lesions.core.errors import InputError, run
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, nargs="+", help="laid one over the other")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    args = parser.parse_args()
    found = reduce(overlaid, map(read, [args.params, *args.settings]))
    with replacing(args.params) as part:
        part.write_text(yaml.safe_dump(found, sort_keys=False, width=160), encoding="utf-8")
        try:
            check.load(part)
        except InputError as error:
            told = str(error).replace(str(part), " ".join(map(str, args.settings)))
            way_out = f"if {args.params} has other settings in it already, git checkout {args.params} first"
            raise InputError(f"{told}; {way_out}") from None


if __name__ == "__main__":
    run(main)
