"""Find where pretrained weights come from, and hold them to their publisher's hash.

    package:<name>/<file>         in an installed package of the Python index
    torchvision:<network>[.<tag>] ImageNet's first version, or the tag, from torchvision's server
    timm:<network>.<tag>          from the Hugging Face hub, where timm has it
    keras:resnet50                without its head, from Keras's server
    file:<path>                   a file of one's own: safetensors or a torch state dict

torchvision puts the first eight hex digits of the sha256 in the file's name; Keras publishes an md5; pip checks a
package's hash. Weights of every kind are recorded when they are first fetched, and must match the record later.
"""

import re
from importlib import metadata
from pathlib import Path
from typing import Any

from lesions.core.errors import InputError, nearest
from lesions.core.files import digest

HUB = "https://huggingface.co/{}/resolve/main/model.safetensors"
KERAS = {
    "resnet50": "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
}
MD5 = {"keras:resnet50": "4d473c1dd8becc155b73f8504c6f6626"}


def place(source: str) -> str:
    """Return the URL or path of a source of params.yaml's section weights. Raises InputError for an unknown one."""
    kind, _, what = source.partition(":")
    try:
        if kind not in KINDS or not what:
            raise InputError(f"expected <kind>:<what>{nearest(kind, KINDS)}")
        return KINDS[kind](what)
    except InputError as error:
        raise InputError(f"params.yaml: weights: {source!r}: {error}") from None


def file_name(source: str, place: str) -> str:
    """Return the name that the file is kept under: its publisher's; of timm's, which share one, <network>.<tag>."""
    return f"{source.removeprefix('timm:')}.safetensors" if source.startswith("timm:") else Path(place).name


def packaged(what: str) -> str:
    """Return the path of a file in an installed package."""
    package, _, file = what.partition("/")
    try:
        there = metadata.files(package) or []
    except (metadata.PackageNotFoundError, ValueError):
        raise InputError(f"{package or 'the package'} is not installed; pip install it") from None
    data = [path for path in there if path.suffix not in (".py", ".pyc") and ".dist-info" not in str(path)]
    found = [path for path in data if file and f"/{path}".endswith(f"/{file}")]
    if len(found) != 1:
        raise InputError(f"{len(found) or 'no'} such files in {package}{nearest(file, map(str, data))}")
    return str(found[0].locate())


def of_torchvision(what: str) -> str:
    """Return the URL of torchvision's weights."""
    from torchvision import models

    network, _, tag = what.partition(".")
    tag, known = tag or "IMAGENET1K_V1", models.list_models(module=models)
    if network not in known:
        raise InputError(f"torchvision has no such network{nearest(network, known)}")
    weights = models.get_model_weights(network)
    if tag not in weights.__members__:
        raise InputError(f"torchvision has no weights {tag} of it{nearest(tag, weights.__members__)}")
    return weights[tag].url


def of_timm(what: str) -> str:
    """Return the URL of the safetensors of a network and tag of timm's."""
    import timm

    known = timm.list_pretrained()
    if what not in known:
        raise InputError(f"timm has no such weights{nearest(what, known)}")
    cfg: Any = timm.models.get_pretrained_cfg(what)
    return HUB.format(cfg.hf_hub_id) if cfg.hf_hub_id else cfg.url


def of_keras(what: str) -> str:
    """Return the URL of weights of keras.applications."""
    if what not in KERAS:
        raise InputError(f"unknown{nearest(what, KERAS)}")
    return KERAS[what]


def own(what: str) -> str:
    """Return the path of a file of one's own."""
    path = Path(what).expanduser()
    if not path.is_file():
        raise InputError("no such file")
    return str(path)


KINDS = {"package": packaged, "torchvision": of_torchvision, "timm": of_timm, "keras": of_keras, "file": own}


def verify(source: str, name: str, sha256: str, path: Path) -> None:
    """Raise InputError unless the file at `path`, published under `name`, has the hash that its publisher gives."""
    vouched = re.search(r"-([0-9a-f]{8})\.pth$", name) if source.startswith("torchvision:") else None
    if source in MD5:
        kind, expected, found = "md5", MD5[source], digest(path, "md5")
    elif vouched:
        kind, expected, found = "sha256", vouched[1], sha256[:8]
    else:
        return
    if found != expected:
        raise InputError(f"{source}: {name}: {kind} {found}, expected {expected}; check --mirror and run again")
