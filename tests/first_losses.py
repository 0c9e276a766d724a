"""Print the DCGAN's first losses on another Keras backend, for tests/test_gan.py, in a process that imports no other.

python -c "from tests import first_losses; first_losses.main()" BACKEND COMPUTE   (the section as JSON; reads state.npz)
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lesions.gan import keras_backend
from lesions.gan.saving import load_state
from lesions.training.config import Compute


def of(backend: keras_backend.Backend, start: Callable) -> list[list[float]]:
    """Return the losses of three steps after start(networks and optimizers); without dropout, which differs."""
    from lesions.gan import dcgan

    rng, dropout = np.random.default_rng(0), dcgan.DROPOUT
    dcgan.DROPOUT = 0.0
    generator, discriminator = dcgan.generator(10), dcgan.discriminator()
    dcgan.DROPOUT = dropout
    pair = dcgan.adams(generator, discriminator, 1e-4, 0.5)
    start((generator, discriminator, *pair))
    step = dcgan.train_step(generator, discriminator, pair, backend)
    images, noise = rng.uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32), rng.standard_normal((4, 10), np.float32)
    return [[float(loss) for loss in step(images, noise)] for _ in range(3)]


def main() -> None:
    backend = keras_backend.begin(sys.argv[1], Compute.model_validate_json(sys.argv[2]), 1)
    print(json.dumps(of(backend, lambda parts: load_state(parts, Path("state.npz")))))
