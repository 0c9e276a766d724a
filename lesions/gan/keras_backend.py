"""What differs between the backends of Keras (keras.backend): TensorFlow and torch.

Call `begin` before the first `import keras`: Keras asks then, and only then, which backend it has. What is trained
(lesions/gan/dcgan.py, lesions/gan/base_model.py) is written on Keras alone and is handed the backend.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lesions.core.errors import InputError
from lesions.training.config import Compute

if TYPE_CHECKING:
    import keras

    Networks: TypeAlias = Sequence[keras.Model]
    Adams: TypeAlias = Sequence[keras.optimizers.Optimizer]

Tensor = Any  # the backend's
Shape = tuple[int | None, ...]
Step = Callable[..., Sequence[Tensor]]  # of arrays: one loss a network, which float() reads

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class TensorFlow:
    """Run graphs; steps are compiled by XLA where compute.compile asks for it, on CUDA only.

    device: the GPU's name, or cpu. variables: what dropout draws from, beside the networks' own.
    """

    variables: Sequence["TorchRandom"] = ()

    def __init__(self, compute: Compute, seed: int) -> None:
        import keras
        import tensorflow as tf

        if compute.device == "cuda" and not tf.config.list_physical_devices("GPU"):
            raise no_gpu("TensorFlow", "tensorflow[and-cuda]")
        if compute.device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(compute.threads)
        tf.config.threading.set_inter_op_parallelism_threads(compute.threads)
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        if compute.deterministic:
            tf.config.experimental.enable_op_determinism()
        gpus = tf.config.get_visible_devices("GPU")
        names = [tf.config.experimental.get_device_details(gpu)["device_name"] for gpu in gpus]
        self.device = ", ".join(names) or "cpu"
        self.jit = (compute.compile and bool(gpus)) or None

    def learner(self, networks: "Networks", adams: "Adams", losses: Step, shapes: Sequence[Shape]) -> Step:
        """Return the training step: each network learns from its own loss, by its own optimizer, all from one pass.

        `losses` calls the networks; `shapes` are those of its inputs, the first axis free.
        """
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, *shape[1:]]) for shape in shapes], jit_compile=self.jit)
        def step(*inputs: Tensor) -> Sequence[Tensor]:
            with tf.GradientTape(persistent=True) as tape:
                found = losses(*inputs)
            pairs = zip(found, networks, strict=True)
            gradients = [tape.gradient(loss, network.trainable_variables) for loss, network in pairs]
            for adam, of in zip(adams, gradients, strict=True):
                adam.apply(of)
            return found

        return step


class Torch:
    """Run eagerly; a step's forward pass is compiled where compute.compile asks for it, on CUDA only.

    Its attributes and methods are TensorFlow's.
    """

    def __init__(self, compute: Compute, seed: int) -> None:
        import torch

        found = torch.cuda.is_available()
        if compute.device == "cuda" and not found:
            raise no_gpu("torch", "torch's build for CUDA")
        self.where = "cuda" if compute.device != "cpu" and found else "cpu"
        os.environ["KERAS_TORCH_DEVICE"] = self.where  # read, as the backend, at the first import of Keras
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.set_num_threads(compute.threads)
        torch.use_deterministic_algorithms(compute.deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = not compute.deterministic
        import keras

        # Keras would import TensorFlow to ask for the type of a shape: that takes seconds, and beside Triton it aborts
        # the process.
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]  # an ImportError, which Keras remembers
        keras.utils.clear_session()
        keras.utils.set_random_seed(seed)
        if sys.modules["tensorflow"] is None:
            del sys.modules["tensorflow"]
        self.device = torch.cuda.get_device_name() if self.where == "cuda" else "cpu"
        self.jit = compute.compile and self.where == "cuda"
        self.variables = [TorchRandom(torch.cuda if self.where == "cuda" else torch)]

    def learner(self, networks: "Networks", adams: "Adams", losses: Step, shapes: Sequence[Shape]) -> Step:
        import torch

        forward = torch.compile(losses) if self.jit else losses

        def step(*inputs: np.ndarray) -> Sequence[Tensor]:
            found = forward(*(torch.as_tensor(np.ascontiguousarray(array), device=self.where) for array in inputs))
            gradients = []
            for network, loss in zip(networks, found, strict=True):
                weights = [variable.value for variable in network.trainable_variables]
                gradients.append(torch.autograd.grad(loss, weights, retain_graph=loss is not found[-1]))
            with torch.no_grad():
                for adam, of in zip(adams, gradients, strict=True):
                    adam.apply(of)
            return [loss.detach() for loss in found]

        return step


class TorchRandom:
    """The random state of torch or torch.cuda, uint8, as a variable of Keras: dropout draws from it."""

    def __init__(self, of: Any) -> None:
        self.of = of

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.of.get_rng_state().numpy()

    def assign(self, state: np.ndarray) -> None:
        import torch

        self.of.set_rng_state(torch.from_numpy(state))


Backend: TypeAlias = TensorFlow | Torch
BACKENDS: dict[str, Callable[[Compute, int], Backend]] = {"tensorflow": TensorFlow, "torch": Torch}


def begin(name: str, compute: Compute, seed: int) -> Backend:
    """Start and seed the backend of that name. Raises InputError for the device cuda where it sees none."""
    os.environ["KERAS_BACKEND"] = name
    return BACKENDS[name](compute, seed)


def no_gpu(name: str, package: str) -> InputError:
    return InputError(
        f"params.yaml: compute.device: cuda, but {name} sees no GPU here; choose auto or cpu, or install {package}"
    )
