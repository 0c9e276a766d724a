"""Build any network by its family and name, with our head, from random or published weights.

To add a network of your own, put a file beside this one, with two functions: `names()`, the names of its networks, and
`find(name)`, which returns a `Network`. The file's name is the `family` in params.yaml; nothing lists it.
A stage depends on this file and on its own family's alone, so that another family's change reruns nothing.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from lesions.core.errors import InputError, nearest
from lesions.training import checkpoints
from lesions.training.checkpoints import State
from lesions.training.freezing import Head, last_layers

Size = tuple[int, int]  # height, width
Statistics = tuple[float, ...]  # one a channel
# ImageNet's, of values in 0..1, which torchvision's weights expect.
MEAN: Statistics = (0.485, 0.456, 0.406)
STD: Statistics = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """One network of a family.

    build(size): the network for images of that size, with the head of its published weights, its values random.
    plain(): the network that published weights are of, where `build` makes a variant of it. load(size, state): the
    network filled with its published weights, where that takes more than equal names. head(channels, classes): in place
    of one layer. mean, std: what the published weights expect of values in 0..1.
    """

    build: Callable[[Size], nn.Module]
    plain: Callable[[], nn.Module] | None = None
    load: Callable[[Size, State], nn.Module] | None = None
    head: Callable[[int, int], nn.Module] | None = None
    mean: Statistics = MEAN
    std: Statistics = STD


def family(name: str) -> ModuleType:
    """Return the module of a family. Raises InputError naming those there are."""
    known = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "build"))
    if name not in known:
        raise InputError(f"params.yaml: family {name!r}: no file lesions/networks/{name}.py{nearest(name, known)}")
    return importlib.import_module(f"lesions.networks.{name}")


def find(of: str, name: str) -> Network:
    """Return the network `name` of the family `of`. Raises InputError naming the nearest ones."""
    module = family(of)
    known = module.names()
    if name not in known:
        raise InputError(f"params.yaml: network {name!r}: unknown in family {of}{nearest(name, known)}")
    return module.find(name)


def aligned(state: State, expected: State, in_order: bool) -> State:
    """Return `state` under the names of `expected`; if the names differ and the shapes do not, match them by order.

    Packages of converted weights have other names. `in_order`: whether the file keeps the order of the layers.
    Counters of batches, which old files lack, become 0.
    """
    counters = {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith("num_batches_tracked")}
    named = counters | state
    if in_order and named.keys() != expected.keys():
        for names in (list(expected), [name for name in expected if name not in counters]):
            if [value.shape for value in state.values()] == [expected[name].shape for name in names]:
                return counters | dict(zip(names, state.values(), strict=True))
    return named


def check(state: State, expected: State, where: str) -> None:
    """Raise InputError, beginning with `where`, unless names and shapes are those of `expected`."""
    for name in [*expected, *state]:
        shapes = [f"{tuple(of[name].shape)}" if name in of else "nothing" for of in (expected, state)]
        if shapes[0] != shapes[1]:
            raise InputError(f"{where}: {name}: expected {shapes[0]}, found {shapes[1]}")


def filled(network: Network, name: str, size: Size, weights: Path) -> nn.Module:
    """Build the network with published weights; skip layers that only a variant or only its plain network has.

    Raises InputError for weights that are not exactly those of the plain network.
    """
    where = f"{weights}: no weights that {name} takes"
    with torch.device("meta"):  # names and shapes alone
        expected = (network.plain() if network.plain else network.build(size)).state_dict()
    state = aligned(checkpoints.load(weights), expected, in_order=not checkpoints.is_safetensors(weights))
    if network.load is None:
        check(state, expected, where)
        model = network.build(size)
        model.load_state_dict(state, strict=False)
        return model
    try:
        return network.load(size, state)
    except Exception as error:  # timm's filter of names can raise any error on a wrong file
        raise InputError(f"{where}: {' '.join(str(error).split())[:200]}") from None


def put_head(model: nn.Module, network: Network, classes: int) -> None:
    """Put a new head in place of the published one: by the network's own means, if it has any (timm's interface)."""
    if reset := getattr(model, "reset_classifier", None):
        reset(classes)
        return
    for place, last in last_layers(model).items():
        if isinstance(last, nn.Conv2d):
            model.set_submodule(place, nn.Conv2d(last.in_channels, classes, 1))
        else:
            model.set_submodule(place, (network.head or nn.Linear)(last.in_features, classes))


class MeanDropout(nn.Dropout):
    """Take the mean of several draws of dropout; before a linear layer, that gives the mean of its outputs."""

    def __init__(self, p: float, draws: int) -> None:
        super().__init__(p)
        self.draws = draws

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean over draws, of the shape of `x`; in evaluation `x` itself."""
        if not self.training:
            return x
        return torch.stack([super(MeanDropout, self).forward(x) for _ in range(self.draws)]).mean(dim=0)


def put_dropout(model: nn.Module, p: float, draws: int) -> None:
    """Put dropout before each layer that gives logits (study E's M4 to M6), beside any that the network has."""
    for name, layer in last_layers(model).items():
        model.set_submodule(name, Head(MeanDropout(p, draws) if draws > 1 else nn.Dropout(p), layer))


@contextmanager
def accepting(size: Size, name: str) -> Iterator[None]:
    """Turn a network's error about images of that size into an InputError of one line."""
    try:
        yield
    except (RuntimeError, AssertionError, ValueError, IndexError, ZeroDivisionError) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"params.yaml: {name}: cannot take images of {size[0]}×{size[1]} ({said}); choose another size"
        ) from None


@torch.inference_mode()
def try_out(model: nn.Module, size: Size, name: str, shape: tuple[int, ...]) -> None:
    """Raise InputError unless the network takes an image of that size and gives an output of that shape."""
    training = model.training
    with accepting(size, name):
        output = model.eval()(torch.zeros(1, 3, *size))
    model.train(training)
    if not isinstance(output, Tensor) or output.shape != shape:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"params.yaml: {name}: expected an output of shape {shape} for one image, found {found}")


def build(
    of: str, name: str, classes: int, size: Size, weights: Path | None = None, dropout: float = 0.0, draws: int = 1
) -> nn.Module:
    """Build the network from float B×3×H×W, normalised by its mean and std, to logits B×`classes`.

    `size`: of the images. `weights`: published ones of the network, or of a variant's plain network, whose head is
    replaced. `dropout`: the probability of dropout put before the last layer, the mean of so many `draws`; at 0 there
    is none. Initial values come from torch's global seed. Raises InputError for an unknown name, weights that do not
    match, and a size or a dropout that the network cannot take.
    """
    network, size = find(of, name), (int(size[0]), int(size[1]))
    with accepting(size, f"network {name}"):
        model = network.build(size) if weights is None else filled(network, name, size, weights)
    put_head(model, network, classes)
    try_out(model, size, f"network {name}", (1, classes))
    if dropout > 0:
        put_dropout(model, dropout, draws)
        try_out(model, size, f"network {name} with dropout", (1, classes))
    return model
