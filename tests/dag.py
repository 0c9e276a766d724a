"""What dvc.yaml says, what the stages' sources say; tests/test_dag.py holds the one against the other."""

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
WINGS = sorted(path.parent.name for path in (ROOT / "lesions").glob("*/__init__.py"))
BY_FILE = ("lesions/networks", "lesions/tools")  # wings of which a stage depends on files
# The families of networks that a stage may build, where its block does not say: a U-Net's encoders; study C's pairs.
FAMILIES = {
    **dict.fromkeys(("segment", "unet34", "predict_masks", "score_masks", "export_unet"), ("torchvision", "timm")),
    "attention": ("attention",),
}


def imported(source: Path) -> set[str]:
    """Return the files of this repository that `source` imports, directly or not, at any depth of nesting."""
    found: set[str] = set()
    waiting = [source]
    while waiting:
        new = ours(waiting.pop()) - found
        found |= new
        waiting += [ROOT / path for path in new]
    return found


def ours(source: Path) -> set[str]:
    """Return the files of this repository that `source` itself imports."""
    paths = {f"{name.replace('.', '/')}.py" for name in imports(source)}
    return {path for path in paths if (ROOT / path).exists()}


def imports(source: Path) -> set[str]:
    """Return the names of the modules that `source` imports, as far as a source can tell."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def needed(source: Path) -> set[str]:
    """Return what a stage's `deps` should name of our sources: wings, or files of BY_FILE and a lone config.py."""
    wings: dict[str, set[str]] = {}
    for file in imported(source):
        if file.startswith("lesions/"):
            wings.setdefault(str(Path(file).parent), set()).add(file)
    found = {str(source.relative_to(ROOT))}
    for wing, files in wings.items():
        found |= files if wing in BY_FILE or files == {f"{wing}/config.py"} else {wing}
    if "lesions/networks/build.py" in found:
        found |= {f"lesions/networks/{family}.py" for family in FAMILIES.get(source.stem, "*")}
    return found | ({"lesions/networks"} if source.stem == "check" else set())  # whose files it lists


def calls(source: Path) -> set[str]:
    """Return the keys that `config.read` and `config.section` are given in a source, `{…}` of an f-string as `*`."""
    keys = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("config.read", "config.section"):
            key = node.args[0]
            parts = key.values if isinstance(key, ast.JoinedStr) else [key]
            keys.add("".join(v.value if isinstance(v, ast.Constant) else "*" for v in parts))
    return keys


def read_params(source: Path) -> set[str]:
    """Return the keys of params.yaml that a stage reads, through lesions/classify/config.py too."""
    text, keys = source.read_text(encoding="utf-8"), calls(source)
    if "classifier(" in text:  # a pair of `attention` does not say its blocks' recipes
        keys |= {"train", "recipes" if source.stem == "attention" else "recipes.*", "classifiers.*"}
    return keys


def stages() -> dict[str, dict]:
    """Return the body of each stage of dvc.yaml (of a foreach, what it does) by its name."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: body.get("do", body) for name, body in found.items()}


def script(body: dict) -> Path:
    return ROOT / (re.search(r"python -m (stages\.\w+)", body["cmd"]).group(1).replace(".", "/") + ".py")


def sources(body: dict) -> set[str]:
    """Return the stage's `deps` that are sources of ours."""
    return {re.sub(r"\$\{[^}]+\}", "*", dep) for dep in body["deps"] if dep.startswith(("stages/", "lesions/"))}


def declared_params(body: dict) -> set[str]:
    return {re.sub(r"\$\{[^}]+\}", "*", key) for key in body.get("params", [])}
