"""What dvc.yaml says, what the stages' sources say; tests/test_dag.py holds the one against the other."""

import ast
import re
import textwrap
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


def rewritten(text: str) -> str:
    """dvc.yaml with each stage's modules set to what its script imports; its other deps stay as they are."""
    for body in stages().values():
        first = str(script(body).relative_to(ROOT))
        others = [f'"{dep}"' if "{" in dep else dep for dep in body["deps"] if not dep.endswith(".py")]
        names = [first, *sorted(imported(script(body))), *others]
        cmd = re.escape(body["cmd"])
        found = re.search(rf"^( +)cmd: {cmd}\n(?:\1.*\n)*?\1deps:(?P<deps>.*\n(?:\1 .*\n)*)", text, re.M)
        indent = found[1]
        how = {"width": 118, "subsequent_indent": f"{indent}  ", "break_long_words": False, "break_on_hyphens": False}
        wrapped = textwrap.fill(f"{indent}deps: [{', '.join(names)}]", **how).removeprefix(f"{indent}deps:")
        text = text[: found.start("deps")] + f"{wrapped}\n" + text[found.end("deps") :]
    return text


if __name__ == "__main__":  # python tests/dag.py: mend dvc.yaml
    (ROOT / "dvc.yaml").write_text(rewritten((ROOT / "dvc.yaml").read_text(encoding="utf-8")), encoding="utf-8")
