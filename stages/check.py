"""Check: refuse a params.yaml with unknown keys, wrong values or sections that disagree, before a byte is fetched.

    python -m stages.check

Reads params.yaml; writes
  data/checked      always the same, so that a sound change of params.yaml reruns what it concerns and no more
  data/chosen.json  how things are trained and predicted, each classifier's block complete, for the stage compare
  data/augmented.json  each augmentation, with the first classifier that has it and its images, for the stage examples
"""

import argparse
from pathlib import Path
from typing import Any

from lesions.compare.config import Chosen
from lesions.core.errors import run
from lesions.core.files import write_json, write_text
from lesions.tools import check
from lesions.tools.check import Params


def chosen(params: Params) -> Chosen:
    """Return the part of params.yaml that the stage compare reads."""
    repeated = {key: getattr(params, key) for key in Chosen.model_fields.keys() & Params.model_fields.keys()}
    return Chosen(source=params.data.source, sets=tuple(params.data.sets), **repeated)


def augmented(params: Params) -> dict[str, dict[str, Any]]:
    """Return by name each augmentation, with the first classifier that has it and the resized images of that."""
    found: dict[str, dict[str, Any]] = {}
    for name, block in params.classifiers.items():
        if block.augment and block.images.startswith("resized/"):
            first = {"classifier": name, "images": block.images, "augment": block.augment}
            found.setdefault("-".join(block.augment), first)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = check.load()
    write_json(Path("data/chosen.json"), chosen(found).model_dump(mode="json"))
    write_json(Path("data/augmented.json"), augmented(found))
    write_text(Path("data/checked"), "params.yaml is sound\n")


if __name__ == "__main__":
    run(main)
