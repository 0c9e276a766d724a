"""The DCGAN of study B (its appendix A.3): 64×64 RGB images from a latent vector, and one training step.

Two departures from the listing, both marked in the README: the discriminator ends in logits, because the listing's
loss takes its sigmoid output for logits; noise is an argument of the step, so that a run can be repeated.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lesions.files import replacing
from lesions.study_b import keras, tf

SIDE = 64
MOMENTUM = 0.8
LEAK = 0.2
DROPOUT = 0.25
Draw = Callable[[np.ndarray], np.ndarray]
Adams = tuple[keras.optimizers.Adam, keras.optimizers.Adam]  # the generator's, the discriminator's
Stateful = keras.Model | keras.optimizers.Optimizer
Step = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def generator(latent: int) -> keras.Model:
    """latent N×`latent` -> images N×64×64×3 in [-1, 1]."""
    layers = keras.layers
    stack = [
        layers.Input((latent,), name="latent"),
        layers.Dense(4 * 4 * 256, activation="relu", name="dense"),
        layers.Reshape((4, 4, 256), name="reshape"),
    ]
    for number, channels in enumerate((256, 256, 128, 128), start=1):
        stack += [
            layers.UpSampling2D(2, name=f"up{number}"),
            layers.Conv2D(channels, 3, padding="same", name=f"conv{number}"),
            layers.BatchNormalization(momentum=MOMENTUM, name=f"norm{number}"),
            layers.Activation("relu", name=f"relu{number}"),
        ]
    stack += [layers.Conv2D(3, 3, padding="same", name="conv5"), layers.Activation("tanh", name="tanh")]
    return keras.Sequential(stack, name="generator")


def discriminator() -> keras.Model:
    """images N×64×64×3 in [-1, 1] -> logits N×1, above 0 for real."""
    layers = keras.layers
    stack = [layers.Input((SIDE, SIDE, 3), name="image")]
    for number, (channels, stride) in enumerate(((32, 2), (64, 2), (128, 2), (256, 1), (512, 1)), start=1):
        stack.append(layers.Conv2D(channels, 3, strides=stride, padding="same", name=f"conv{number}"))
        if number == 2:
            stack.append(layers.ZeroPadding2D(((0, 1), (0, 1)), name="pad"))
        if number > 1:
            stack.append(layers.BatchNormalization(momentum=MOMENTUM, name=f"norm{number}"))
        stack += [layers.LeakyReLU(LEAK, name=f"leaky{number}"), layers.Dropout(DROPOUT, name=f"drop{number}")]
    stack += [layers.Flatten(name="flatten"), layers.Dense(1, name="logit")]
    return keras.Sequential(stack, name="discriminator")


def losses(real: tf.Tensor, fake: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Binary cross-entropy of the generator and of the discriminator, from the logits of real and generated images."""
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    of_generator = entropy(tf.ones_like(fake), fake)
    of_discriminator = entropy(tf.ones_like(real), real) + entropy(tf.zeros_like(fake), fake)
    return of_generator, of_discriminator


def adams(makes: keras.Model, judges: keras.Model, lr: float, beta1: float) -> Adams:
    """An optimizer for each network."""
    pair = keras.optimizers.Adam(lr, beta_1=beta1), keras.optimizers.Adam(lr, beta_1=beta1)
    for adam, network in zip(pair, (makes, judges), strict=True):
        adam.build(network.trainable_variables)
    return pair


def save_state(parts: Sequence[Stateful], path: Path, **more: np.ndarray) -> None:
    """All that a training changes (weights, moments, the seeds of dropout), and `more`, as one .npz."""
    values = {f"v{number}": np.asarray(v) for number, v in enumerate(variables(parts))}
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **values, **more)


def load_state(parts: Sequence[Stateful], path: Path) -> dict[str, np.ndarray]:
    """Give `parts` what save_state wrote; returns the rest of it."""
    with np.load(path, allow_pickle=False) as held:
        for number, variable in enumerate(variables(parts)):
            variable.assign(held[f"v{number}"])
        return {name: held[name] for name in held.files if not name.startswith("v")}


def variables(parts: Sequence[Stateful]) -> list[keras.Variable]:
    return [variable for part in parts for variable in part.variables]


def train_step(makes: keras.Model, judges: keras.Model, pair: Adams, jit_compile: bool = False) -> Step:
    """The compiled step (images n×64×64×3, noise m×latent) -> losses of generator and discriminator.

    Both networks learn from one forward pass, each by its own Adam. n and m may differ and vary: one trace serves all.
    """
    adam_makes, adam_judges = pair
    signature = [tf.TensorSpec([None, *shape[1:]]) for shape in (judges.input_shape, makes.input_shape)]

    @tf.function(input_signature=signature, jit_compile=jit_compile or None)
    def step(images: tf.Tensor, noise: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape_makes, tf.GradientTape() as tape_judges:
            generated = makes(noise, training=True)
            real, fake = judges(images, training=True), judges(generated, training=True)
            loss_makes, loss_judges = losses(real, fake)
        gradients_makes = tape_makes.gradient(loss_makes, makes.trainable_variables)
        gradients_judges = tape_judges.gradient(loss_judges, judges.trainable_variables)
        adam_makes.apply(gradients_makes)
        adam_judges.apply(gradients_judges)
        return loss_makes, loss_judges

    return step


def from_pixels(pixels: np.ndarray) -> np.ndarray:
    """uint8 0…255 -> float32 [-1, 1]."""
    return pixels.astype(np.float32) / 127.5 - 1


def to_pixels(images: np.ndarray) -> np.ndarray:
    """float [-1, 1] -> uint8 0…255, to the nearest level; the inverse of `from_pixels`."""
    return np.rint((np.asarray(images) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def drawer(makes: keras.Model, chunk: int = 64) -> Draw:
    """The compiled function noise N×`latent` -> images, uint8 N×64×64×3, by `makes` in inference mode."""

    @tf.function(input_signature=[tf.TensorSpec([None, *makes.input_shape[1:]])])
    def forward(noise: tf.Tensor) -> tf.Tensor:
        return makes(noise, training=False)

    def draw(noise: np.ndarray) -> np.ndarray:
        parts = [forward(noise[start : start + chunk]) for start in range(0, len(noise), chunk)]
        return to_pixels(np.concatenate(parts))

    return draw
