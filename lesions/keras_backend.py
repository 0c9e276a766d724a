"""The Keras backends (keras.backend): all that differs between TensorFlow, torch and JAX.

`begin` comes before the first `import keras`, because Keras asks then, and only then, which backend it has. What is
trained (lesions/gan.py, lesions/base_model.py) is written on Keras alone and is handed the backend.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from lesions.errors import InputError
from lesions.params import Compute

if TYPE_CHECKING:
    import keras

Tensor = Any  # of the backend
Forward = Callable[[np.ndarray], np.ndarray]
Step = Callable[..., Sequence[Tensor]]  # arrays -> one loss a network, which float() reads

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class Backend(ABC):
    """device: the name of the GPU in use, or cpu. jit_fit: whether Keras's own `fit` has to be compiled.
    variables: what dropout draws from, where that is not among the variables of the networks."""

    device: str
    jit_fit = False
    variables: Sequence["TorchGenerator"] = ()

    @abstractmethod
    def __init__(self, compute: Compute, seed: int) -> None:
        """Device, threads, seeds and determinism. Raises InputError for the device cuda where there is none."""

    @abstractmethod
    def learner(
        self,
        networks: Sequence["keras.Model"],
        adams: Sequence["keras.optimizers.Optimizer"],
        losses: Callable[..., Sequence[Tensor]],
        shapes: Sequence[tuple[int | None, ...]],
    ) -> Step:
        """The training step: each network learns from its own loss, by its own optimizer, all from one forward pass.

        `losses`: inputs -> one loss a network, by calls of `networks`; `shapes`: of its inputs, the first axis free.
        """

    @abstractmethod
    def forward(self, model: "keras.Model", jit: bool = False) -> Forward:
        """`model` in inference mode on batches of any length, float32; `jit`: by XLA where the step is."""


class TensorFlow(Backend):
    """Graphs; with XLA where compute.compile asks for it, on CUDA only."""

    def __init__(self, compute: Compute, seed: int) -> None:
        import keras
        import tensorflow as tf

        self.tf = tf
        if compute.device == "cuda" and not tf.config.list_physical_devices("GPU"):
            raise no_gpu("TensorFlow", "tensorflow[and-cuda]")
        if compute.device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        threading = tf.config.threading
        if threading.get_intra_op_parallelism_threads() != compute.threads:
            threading.set_intra_op_parallelism_threads(compute.threads)
            threading.set_inter_op_parallelism_threads(compute.threads)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        if compute.deterministic:
            tf.config.experimental.enable_op_determinism()
        gpus = tf.config.get_visible_devices("GPU")
        names = [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus]
        self.device = ", ".join(names) or "cpu"
        self.jit = compute.compile and bool(gpus)

    def learner(self, networks, adams, losses, shapes):
        tf = self.tf

        @tf.function(
            input_signature=[tf.TensorSpec([None, *shape[1:]]) for shape in shapes], jit_compile=self.jit or None
        )
        def step(*inputs):
            with tf.GradientTape(persistent=True) as tape:
                found = losses(*inputs)
            weights = [network.trainable_variables for network in networks]
            gradients = [tape.gradient(loss, of) for loss, of in zip(found, weights, strict=True)]
            for adam, of in zip(adams, gradients, strict=True):
                adam.apply(of)
            return found

        return step

    def forward(self, model, jit=False):
        tf = self.tf
        shape = [None, *model.input_shape[1:]]

        @tf.function(input_signature=[tf.TensorSpec(shape)], jit_compile=(jit and self.jit) or None)
        def run(inputs):
            return model(inputs, training=False)

        return lambda inputs: run(inputs).numpy()


class Torch(Backend):
    """Eager; the forward pass of a step by torch.compile where compute.compile asks for it, on CUDA only."""

    def __init__(self, compute: Compute, seed: int) -> None:
        import torch

        self.torch = torch
        found = torch.cuda.is_available()
        if compute.device == "cuda" and not found:
            raise no_gpu("torch", "torch's build for CUDA")
        self.where = "cuda" if compute.device != "cpu" and found else "cpu"
        os.environ["KERAS_TORCH_DEVICE"] = self.where  # read, as the backend, at the first import of Keras
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(compute.threads)
        torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = not compute.deterministic
        seed_alone(seed)
        self.device = torch.cuda.get_device_name() if self.where == "cuda" else "cpu"
        self.jit = compute.compile and self.where == "cuda"
        self.variables = [TorchGenerator(self.where)]  # Keras leaves unseeded dropout to it

    def learner(self, networks, adams, losses, shapes):
        torch = self.torch
        losses = torch.compile(losses) if self.jit else losses

        def step(*inputs):
            found = losses(*(self.tensor(array) for array in inputs))
            gradients = []
            for network, loss in zip(networks, found, strict=True):
                weights = [variable.value for variable in network.trainable_variables]
                gradients.append(torch.autograd.grad(loss, weights, retain_graph=loss is not found[-1]))
            with torch.no_grad():
                for adam, of in zip(adams, gradients, strict=True):
                    adam.apply(of)
            return [loss.detach() for loss in found]

        return step

    def forward(self, model, jit=False):
        torch = self.torch

        @torch.no_grad()
        def run(inputs):
            return model(self.tensor(inputs), training=False).cpu().numpy()

        return run

    def tensor(self, array: np.ndarray) -> Tensor:
        return self.torch.as_tensor(np.ascontiguousarray(array), device=self.where)


class TorchGenerator:
    """The state of torch's own generator on `where`, uint8, read and assigned as a variable of Keras is."""

    def __init__(self, where: str) -> None:
        import torch

        self.of = torch.cuda if where == "cuda" else torch
        self.tensor = torch.from_numpy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.of.get_rng_state().numpy()

    def assign(self, state: np.ndarray) -> None:
        self.of.set_rng_state(self.tensor(state))


class Jax(Backend):
    """Always by XLA, once for each length of a batch; state goes in and out of what is compiled."""

    jit_fit = True

    def __init__(self, compute: Compute, seed: int) -> None:
        if compute.device == "cpu":
            os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["NPROC"] = str(compute.threads)  # of XLA's pool on the CPU
        if compute.deterministic:
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
        import jax
        import keras

        self.jax, self.scope = jax, keras.StatelessScope
        gpus = [device for device in jax.devices() if device.platform == "gpu"]
        if compute.device == "cuda" and not gpus:
            raise no_gpu("JAX", "jax[cuda12]")
        seed_alone(seed)
        self.device = ", ".join(device.device_kind for device in gpus) or "cpu"

    def learner(self, networks, adams, losses, shapes):
        jax = self.jax
        weights = [network.trainable_variables for network in networks]
        others = [variable for network in networks for variable in network.non_trainable_variables]
        moments = [adam.variables for adam in adams]

        @jax.jit
        def pure(weights_in, others_in, moments_in, inputs):
            def of_weights(*values):
                known = [*zip(chain(*weights), chain(*values), strict=True), *zip(others, others_in, strict=True)]
                with self.scope(state_mapping=known) as scope:
                    found = tuple(losses(*inputs))
                return found, [scope.get_current_value(variable) for variable in others]

            found, pull, others_out = jax.vjp(of_weights, *weights_in, has_aux=True)
            gradients = [pull(tuple(row))[i] for i, row in enumerate(np.eye(len(networks), dtype=np.float32))]
            applied = [
                adam.stateless_apply(held, of, values)
                for adam, held, of, values in zip(adams, moments_in, gradients, weights_in, strict=True)
            ]
            return found, [of for of, _ in applied], others_out, [held for _, held in applied]

        def step(*inputs):
            state = [values(of) for of in weights], values(others), [values(of) for of in moments]
            found, weights_out, others_out, moments_out = pure(*state, inputs)
            for variable, value in zip(
                chain(*weights, others, *moments), chain(*weights_out, others_out, *moments_out), strict=True
            ):
                variable.assign(value)
            return found

        return step

    def forward(self, model, jit=False):
        @self.jax.jit
        def pure(weights, others, inputs):
            return model.stateless_call(weights, others, inputs, training=False)[0]

        def run(inputs):
            return np.asarray(pure(values(model.trainable_variables), values(model.non_trainable_variables), inputs))

        return run


BACKENDS: dict[str, type[Backend]] = {"tensorflow": TensorFlow, "torch": Torch, "jax": Jax}


def begin(name: str, compute: Compute, seed: int) -> Backend:
    """The backend of that name (keras.backend), ready; to be called before the first import of Keras."""
    check(name)
    os.environ["KERAS_BACKEND"] = name
    return BACKENDS[name](compute, seed)


def check(name: str) -> None:
    """Raises InputError for a backend that is not installed."""
    if find_spec(name) is None:
        raise InputError(
            f"params.yaml: keras.backend: {name} is not installed; pip install {name}, or choose another of "
            f"{', '.join(BACKENDS)}"
        )


def values(variables: Sequence["keras.Variable"]) -> list[Tensor]:
    return [variable.value for variable in variables]


def seed_alone(seed: int) -> None:
    """Start and seed Keras on another backend than TensorFlow, whose import it is refused where it is installed: Keras
    would take seconds to ask it for the type of a shape, and beside Triton it aborts the process."""
    import keras

    sys.modules.setdefault("tensorflow", None)  # an ImportError, which Keras remembers
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    if sys.modules["tensorflow"] is None:
        del sys.modules["tensorflow"]


def no_gpu(name: str, package: str) -> InputError:
    return InputError(
        f"params.yaml: compute.device: cuda, but {name} sees no GPU here; choose auto or cpu, or install {package}"
    )
