"""Loading is safe: what is in a file from elsewhere is never run."""

import ast
import datetime
import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.utils import canonicalize_name
from PIL import EpsImagePlugin

from lesions.core import config, files
from lesions.core.errors import InputError
from lesions.download import checksums
from lesions.raw import photographs
from lesions.tools import check, settings
from lesions.training import checkpoints
from tests.conftest import ROOT
from tests.dag import WINGS

SOURCES = sorted(path for folder in ("lesions", "stages") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "runpy",
           "ctypes"}  # fmt: skip
NAMES = {"eval", "exec", "compile", "__import__", "execfile", "input", "yaml.load"}
METHODS = {"read_pickle", "extract", "extractall", "unpack_archive", "unsafe_load", "full_load", "load_all", "system",
           "popen", "dlopen", "load_state_dict_from_url", "read_hdf", "enable_unsafe_deserialization"}  # fmt: skip
LIBC = "ctypes.CDLL(None)"  # the C library of this process; of ctypes nothing else
GUARDED = {  # what may be called, and what has to be said then
    "torch.load": ("weights_only", True), "np.load": ("allow_pickle", False), "numpy.load": ("allow_pickle", False),
    "load_model": ("safe_mode", True), "keras.models.load_model": ("safe_mode", True),
    "keras.saving.load_model": ("safe_mode", True), "YAML": ("typ", "safe"), "ruamel.yaml.YAML": ("typ", "safe"),
}  # fmt: skip


def unsafe(source: str) -> list[str]:
    """What `source` imports or calls that could run what a file says, as 'line: what'."""
    tree, found = ast.parse(source), []
    libc = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node) == LIBC]
    known = {id(part) for call in libc for part in ast.walk(call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias for alias in node.names if ast.unparse(alias) != "ctypes"]
            found += [(node, alias.name) for alias in names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.Name) and node.id == "ctypes" and id(node) not in known:
            found.append((node, "ctypes"))
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and node.slice.value in METHODS:
            found.append((node, ast.unparse(node)))
        elif isinstance(node, ast.ImportFrom):
            module, names = node.module or "", {alias.name for alias in node.names}
            loaders = names & {"load", "load_model", *METHODS} if module.partition(".")[0] != "lesions" else set()
            if module.partition(".")[0] in MODULES or loaders:
                found.append((node, f"{module}: {', '.join(sorted(names))}"))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            said = {word.arg: word.value for word in node.keywords}
            key, wanted = GUARDED.get(name, (None, None))
            guard = said.get(key)
            by_name = name == "getattr" and any(isinstance(a, ast.Constant) and a.value in METHODS for a in node.args)
            if by_name or name in NAMES or name.rpartition(".")[2] in METHODS or "subprocess" in name:
                found.append((node, name))
            elif key and not (isinstance(guard, ast.Constant) and guard.value == wanted):
                found.append((node, f"{name} without {key}={wanted}"))
            elif isinstance(said.get("allow_pickle"), ast.Constant) and said["allow_pickle"].value:
                found.append((node, f"{name} with allow_pickle"))
    return [f"{node.lineno}: {what}" for node, what in found]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_source_calls_an_unsafe_loader(path):
    found = unsafe(path.read_text(encoding="utf-8"))
    if path.parent.name == "tools":  # some run dvc, its stages, and themselves
        found = [line for line in found if "subprocess" not in line]
    if path.parent.name == "cluster":  # functions of ours go to workers that have our key; asks git, nvidia-smi
        allowed = ("subprocess", "cloudpickle", "archive.extractall")
        found = [line for line in found if not any(what in line for what in allowed)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "from torch import load", "torch.load(x)",
        "torch.load(x, weights_only=False)", "torch.load(x, weights_only=safe)", "np.load(x)",
        "np.load(x, allow_pickle=True)", "np.savez(x, allow_pickle=True)", "yaml.load(x)", "yaml.unsafe_load(x)",
        "yaml.load(x, yaml.Loader)", "YAML(typ='unsafe').load(x)", "YAML().load(x)", "pd.read_pickle(x)", "eval(x)",
        "archive.extractall()", "keras.models.load_model(x)", "keras.models.load_model(x, safe_mode=False)",
        "from keras.models import load_model", "os.system(x)", "subprocess.run(x)",
        "from ctypes import CDLL", "import ctypes.util", "import ctypes as c", "ctypes.CDLL(x)", "ctypes.cdll.x",
        "ctypes.CDLL(None).system(x)", "f = ctypes.CDLL", "getattr(ctypes.CDLL(None), 'system')(x)",
        "ctypes.CDLL(None)['system'](x)", "getattr(os, 'popen', None)(x)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source):
    assert len(unsafe(source)) == 1


def test_this_process_s_c_library_is_no_file():
    assert unsafe("import ctypes\nctypes.CDLL(None).prctl(1, 9)") == []


def test_every_wing_is_searched():
    assert {path.parent.name for path in SOURCES} == {"lesions", "stages", *WINGS} and len(SOURCES) > 60


def test_yaml_gives_plain_objects_alone(tmp_path):
    tags = "a: 1\nb: 1.5\nc: x\nd: [true, null]\ne: !!set {x, y}\nf: !!binary aGk=\ng: !!timestamp 2001-01-01\n"
    (tmp_path / "p.yaml").write_text(tags)
    found = config.read_yaml(tmp_path / "p.yaml")
    assert type(found) is dict and {type(value) for value in found.values()} == {
        int, float, str, list, set, bytes, datetime.date}  # fmt: skip


class Evil:
    """Pickled, it makes a file when it is read."""

    def __init__(self, owned: Path) -> None:
        self.owned = owned

    def __reduce__(self):
        return (open, (str(self.owned), "w"))


@pytest.fixture
def owned(tmp_path):
    """The path that a file that was executed would have made."""
    yield tmp_path / "owned"
    assert not (tmp_path / "owned").exists()


def test_the_evil_pickle_works(tmp_path):
    """Read carelessly, it does make its file: so its absence below says something."""
    torch.save({"x": Evil(tmp_path / "made")}, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_runs_nothing(tmp_path, owned, zipped):
    torch.save({"x": Evil(owned)}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"evil\.pt: unreadable \(UnpicklingError\)"):
        checkpoints.load(tmp_path / "evil.pt")


@pytest.mark.parametrize("read", [files.read_array, lambda path: files.read_array(path, 1)])
def test_an_array_runs_nothing(tmp_path, owned, read):
    np.save(tmp_path / "evil.npy", np.array([Evil(owned)], dtype=object))
    with pytest.raises(InputError, match=r"evil\.npy: not a \.npy array"):
        read(tmp_path / "evil.npy")


@pytest.mark.parametrize("read", [check.load, settings.read])
@pytest.mark.parametrize("tag", ["!!python/object/apply:builtins.open", "!!python/object/new:builtins.open"])
def test_yaml_runs_nothing(tmp_path, owned, read, tag):
    (tmp_path / "evil.yaml").write_text(f"data: {tag} ['{owned}', 'w']\n")
    with pytest.raises(InputError, match=r"evil\.yaml: line 1: could not determine a constructor"):
        read(tmp_path / "evil.yaml")


def test_json_runs_nothing(tmp_path, owned):
    (tmp_path / "evil.json").write_text(f"__import__('pathlib').Path({str(owned)!r}).touch()")
    with pytest.raises(InputError, match=r"evil\.json: not JSON"):
        checksums.read(tmp_path / "evil.json")


def test_a_picture_runs_nothing(owned, monkeypatch):
    """PostScript is a program, which Pillow would give to Ghostscript; HDF5, WMF and the like have readers too."""
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **how: ran.append(args))
    program = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n({owned}) (w) file closefile\n%%EOF\n"
    for content in (program.encode(), b"\x89HDF\r\n\x1a\n" + bytes(64), struct.pack("<I", 0x9AC6CDD7) + bytes(64)):
        with pytest.raises(InputError, match="expected a whole JPEG or PNG"):
            photographs.decode(content, "evil.jpg")
    assert ran == []


def test_keras_weights_run_nothing(tmp_path, owned):
    """An .h5 may carry a model with a Lambda layer, whose code is marshalled; weights alone are read from it."""
    import h5py
    import keras

    from lesions.gan import base_model

    evil = keras.Sequential([keras.layers.Input((2,)), keras.layers.Lambda(lambda x: x, name="conv1_conv")])
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["model_config"] = evil.to_json()
        file.attrs["layer_names"] = [b"conv1_conv"]
        file.create_group("conv1_conv").attrs["weight_names"] = []
    (tmp_path / "evil").write_bytes(buffer.getvalue())
    built = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.layers.Lambda, "from_config", lambda *args, **how: built.append(args))
        with pytest.raises(InputError, match="evil: not weights of resnet50"):
            base_model.backbone((32, 32), tmp_path / "evil")
    assert built == []


@pytest.mark.parametrize("name", ["requirements", "requirements-scorer"])
def test_what_is_installed_has_a_version_and_hashes(name):
    """pip takes no other file than one of these, nor a package that is not listed."""
    asked = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / f"{name}.in").read_text(), re.M)
    entries = re.split(r"\n(?=\w)", (ROOT / f"{name}.txt").read_text().split("\n", 2)[2])
    pinned = {canonicalize_name(entry.split("==")[0]): entry for entry in entries}
    assert len(asked) > 1 and len(pinned) >= len(asked)
    for package, version in asked:
        assert pinned[canonicalize_name(package)].startswith(f"{canonicalize_name(package)}=={version} ")
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+ .*\\\n +--hash=sha256:[0-9a-f]{64}", entry), entry


def test_make_installs_by_hash():
    installs = re.findall(r"pip install .*", (ROOT / "Makefile").read_text())
    assert len(installs) == 3 and all("--require-hashes" in line for line in installs)
