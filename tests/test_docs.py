"""What the documents say of the repository is so."""

import ast
import re

import pytest

from tests.conftest import ROOT

NAMED = sorted(
    set(re.findall(r"`tests/(\w+)\.py::([\w:]+)`", (ROOT / "docs/bad_input.md").read_text(encoding="utf-8")))
)


def test_every_row_of_bad_input_names_its_test():
    tried = (ROOT / "docs/bad_input.md").read_text(encoding="utf-8").partition("## Fuzzing")[0]
    rows = [line for line in tried.splitlines() if line.startswith("| ") and not line.startswith("| input")]
    assert len(rows) > 50 and len(NAMED) > 50
    assert [row for row in rows if row.count(" | ") != 2 or "`tests/" not in row.rpartition(" | ")[2]] == []


@pytest.mark.parametrize(("module", "name"), NAMED)
def test_every_test_that_is_named_exists(module, name):
    body = ast.parse((ROOT / f"tests/{module}.py").read_text(encoding="utf-8")).body
    for part in name.split("::"):
        (found,) = [node for node in body if getattr(node, "name", None) == part]
        body = found.body
    assert isinstance(found, ast.FunctionDef) and part.startswith("test_")
