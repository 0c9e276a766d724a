"""ImageNet weights: where they are published, and how their file names vouch for them.

torchvision puts the first eight hex digits of the sha256 in the name; Keras publishes an md5.
"""

from pathlib import Path

from lesions.checksums import digest
from lesions.errors import InputError

TORCH_WEIGHTS = {
    "alexnet": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "efficientnet_b0": "https://download.pytorch.org/models/efficientnet_b0_rwightman-7f5810bc.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    "resnet101": "https://download.pytorch.org/models/resnet101-63fe2227.pth",
    "wide_resnet50_2": "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
}
KERAS_WEIGHTS = {
    "keras_resnet50": "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
}
MD5 = {"keras_resnet50": "4d473c1dd8becc155b73f8504c6f6626"}
NAMES = (*TORCH_WEIGHTS, *KERAS_WEIGHTS)


def url(name: str) -> str:
    """Where the weights of that name are published."""
    if name not in NAMES:
        raise InputError(f"weights: unknown name {name!r}; choose from {', '.join(NAMES)}")
    return {**TORCH_WEIGHTS, **KERAS_WEIGHTS}[name]


def verify(name: str, path: Path, sha256: str) -> None:
    """Raise InputError unless the file at `path`, of that sha256, has the hash that its publisher gives."""
    if name in MD5:
        kind, expected, found = "md5", MD5[name], digest(path, "md5")
    else:
        kind, expected = "sha256", TORCH_WEIGHTS[name].rpartition("-")[2].removesuffix(".pth")
        found = sha256[: len(expected)]
    if found != expected:
        raise InputError(f"{name}: {path.name}: {kind} {found}, expected {expected}; check --mirror and run again")
