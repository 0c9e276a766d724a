"""The wings of lesions/: which may import which; no circle; names that tell; an __init__ that imports nothing."""

import ast
from graphlib import TopologicalSorter
from itertools import combinations
from pathlib import Path

import pytest

from tests import dag
from tests.dag import ROOT, WINGS

MAY_IMPORT = {  # wing.config: of that wing its config.py alone
    "core": "",
    "isic": "core",
    "raw": "core isic",
    "download": "core isic",
    "sample": "core isic raw",
    "pictures": "core isic",
    "batches": "core",
    "training": "core",
    "networks": "core training",
    "classify": "core isic batches training networks",
    "segment": "core isic batches training networks",
    "predict": "core isic raw pictures training.freezing",
    "export": "core isic raw.config batches training networks segment predict",
    "gan": "core isic training.config",
    "compare": "core isic raw.config pictures.config training.config classify.config segment.config predict.config "
    "gan.config",
    "cluster": "core",
    "tools": " ".join(WINGS),
}
MODULES = sorted(path for path in (ROOT / "lesions").rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_what_it_may(wing):
    allowed = {wing, *MAY_IMPORT[wing].split()}
    for source in (ROOT / "lesions" / wing).glob("*.py"):
        for path in dag.ours(source):
            top, other, module = Path(path).with_suffix("").parts
            assert top == "lesions", f"{source.name} imports {path}"
            assert {other, f"{other}.{module}"} & allowed, f"{wing}/{source.name} may not import {path}"


def test_the_table_is_of_the_wings_that_there_are():
    assert sorted(MAY_IMPORT) == WINGS and len(MODULES) > 55
    assert [path.name for path in (ROOT / "lesions").glob("*.py")] == ["__init__.py"]


def test_no_circle_of_files_or_wings():
    """graphlib raises CycleError, which names the circle."""
    files = {str(source.relative_to(ROOT)): dag.ours(source) for source in MODULES}
    assert set(TopologicalSorter(files).static_order()) == set(files)
    wings: dict[str, set[str]] = {}
    for path, found in files.items():
        wings.setdefault(Path(path).parent.name, set()).update({Path(other).parent.name for other in found})
    order = list(TopologicalSorter({wing: found - {wing} for wing, found in wings.items()}).static_order())
    assert (order[0], order[-1]) == ("core", "tools")


def test_no_stage_but_check_imports_tools():
    users = {path.stem for path in (ROOT / "stages").glob("*.py") if "lesions/tools/" in " ".join(dag.imported(path))}
    assert users == {"check"}


def test_a_family_of_networks_needs_no_other():
    """A stage depends on its own family's file: what that file imports of its wing must be build alone."""
    families = [path for path in (ROOT / "lesions/networks").glob("*.py") if path.stem not in ("__init__", "build")]
    assert len(families) > 3
    for path in families:
        assert {found for found in dag.imported(path) if "/networks/" in found} == {"lesions/networks/build.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "lesions").rglob("__init__.py")), ids=lambda path: path.parent.name)
def test_an_init_holds_a_docstring_only(path):
    (only,) = ast.parse(path.read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr) and isinstance(only.value.value, str) and only.value.value.strip()


def alike(one: str, other: str) -> bool:
    """Whether two names differ by an ending of at most three letters: mask, masks, masked, masking."""
    stem = max(4, len(one) - 3, len(other) - 3)
    return one[:stem] == other[:stem]


def test_what_is_alike_is_found():
    assert alike("mask", "masking") and alike("masked", "masking") and alike("measure", "measured")
    assert not alike("checksums", "checkpoints") and not alike("scene", "scorecard") and not alike("gan", "gain")


def test_no_two_names_differ_by_an_ending():
    """Of modules, config.py apart, and of wings."""
    names = sorted([*(path.stem for path in MODULES if path.stem != "config"), *WINGS])
    assert [pair for pair in combinations(names, 2) if alike(*pair)] == []
