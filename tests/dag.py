"""What dvc.yaml says, what the stages' sources say; tests/test_dag.py holds the one against the other."""

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def imported(source: Path) -> set[str]:
    """Files of this repository that `source` imports, directly or not, at any depth of nesting."""
    found: set[str] = set()
    waiting = [source]
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                path = ROOT / f"{name.replace('.', '/')}.py"
                if path.exists() and str(path.relative_to(ROOT)) not in found:
                    found.add(str(path.relative_to(ROOT)))
                    waiting.append(path)
    return found


def read_params(source: Path) -> set[str]:
    """The keys that a stage hands to params.read, `{…}` of an f-string as `*`."""
    keys = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.read":
            for argument in node.args:
                if isinstance(argument, ast.JoinedStr):
                    keys.add("".join("*" if isinstance(v, ast.FormattedValue) else v.value for v in argument.values))
                else:
                    keys.add(ast.literal_eval(argument))
    return keys


def stages() -> dict[str, dict]:
    """Name → the body of each stage of dvc.yaml (of the `do` of a foreach), with desc."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return {name: body.get("do", body) for name, body in found.items()}


def script(body: dict) -> Path:
    return ROOT / (re.search(r"python -m (stages\.\w+)", body["cmd"]).group(1).replace(".", "/") + ".py")


def modules(body: dict) -> set[str]:
    return {dep for dep in body["deps"] if dep.endswith(".py")}


def declared_params(body: dict) -> set[str]:
    return {re.sub(r"\$\{[^}]+\}", "*", key) for key in body.get("params", [])}
