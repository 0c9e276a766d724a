"""Check: refuse a params.yaml with unknown keys, wrong values or sections that disagree, before a byte is fetched.

    python -m stages.check

Reads params.yaml; writes
  data/checked      always the same, so that a sound change of params.yaml reruns what it concerns and no more
  data/chosen.json  how things are trained and predicted, each classifier's block complete, for the stage compare
"""

import argparse
from pathlib import Path

from lesions.core.errors import run
from lesions.core.files import write_json, write_text
from lesions.tools import check


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()
    params = check.load(args.params)
    write_json(args.data / "chosen.json", check.chosen(params).model_dump(mode="json"))
    write_text(args.data / "checked", "params.yaml is sound\n")


if __name__ == "__main__":
    run(main)
