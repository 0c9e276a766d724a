"""The DCGAN's first losses on another Keras backend, for tests/test_gan.py: in a process that imports nothing else.

python -c "from tests import first_losses; first_losses.main()" BACKEND COMPUTE   (the section as JSON; reads state.npz)
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lesions import keras_backend
from lesions.params import Compute
from lesions.study_b import load_state


def of(backend: keras_backend.Backend, start: Callable) -> list[list[float]]:
    """Three steps' after start(networks and optimizers), without dropout, whose draws are each backend's own."""
    from lesions import gan

    rng, dropout = np.random.default_rng(0), gan.DROPOUT
    gan.DROPOUT = 0.0
    makes, judges = gan.generator(10), gan.discriminator()
    gan.DROPOUT = dropout
    pair = gan.adams(makes, judges, 1e-4, 0.5)
    start((makes, judges, *pair))
    step = gan.train_step(makes, judges, pair, backend)
    images, noise = rng.uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32), rng.standard_normal((4, 10), np.float32)
    return [[float(loss) for loss in step(images, noise)] for _ in range(3)]


def main() -> None:
    backend = keras_backend.begin(sys.argv[1], Compute.model_validate_json(sys.argv[2]), 1)
    print(json.dumps(of(backend, lambda parts: load_state(parts, Path("state.npz")))))
