"""What the documents say of the repository is so."""

import ast
import re
import subprocess

import pytest

from tests.conftest import ROOT

NAMED = sorted(
    set(re.findall(r"`tests/(\w+)\.py::([\w:]+)`", (ROOT / "docs/bad_input.md").read_text(encoding="utf-8")))
)


PAGES = sorted(
    ROOT / name for name in subprocess.check_output(["git", "ls-files", "*.md"], cwd=ROOT, text=True).splitlines()
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_make_targets_lead_somewhere(page):
    text, makefile = page.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.M))
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.M)} == set()


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
