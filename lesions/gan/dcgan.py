"""The DCGAN of study B (its appendix A.3): 64×64 RGB images from a latent vector, and one training step.

Two departures from the paper's listing (docs/choices.md): the discriminator ends in logits, because the listing's loss
takes its sigmoid output for logits; noise is an argument of the step, so that a run can be repeated.
"""

import keras
import numpy as np
from keras import ops

from lesions.gan.keras_backend import Backend, Step, Tensor

SIDE = 64
MOMENTUM = 0.8
LEAK = 0.2
DROPOUT = 0.25
Adams = tuple[keras.optimizers.Adam, keras.optimizers.Adam]  # the generator's, the discriminator's


def generator(latent: int) -> keras.Model:
    """Build the network from noise N×`latent` to images N×64×64×3 in [-1, 1]."""
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
    """Build the network from images N×64×64×3 in [-1, 1] to logits N×1, above 0 for real."""
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


def enlarged(x: Tensor, conv: keras.layers.Conv2D) -> Tensor:
    """Return conv(UpSampling2D(2)(x)) for a 3×3 kernel with padding "same": N×H×W×C to N×2H×2W×filters.

    Upsampling by 2 makes neighbours equal, so both layers together equal a transposed convolution of stride 2 with the
    4×4 kernel (k₂, k₁+k₂, k₀+k₁, k₀) along each axis, which takes 4/9 of the multiplications.
    """
    kernel = conv.kernel
    for axis in (0, 1):
        first, middle, last = ops.split(kernel, 3, axis=axis)
        kernel = ops.concatenate([last, middle + last, first + middle, first], axis=axis)
    wide = ops.conv_transpose(x, ops.transpose(kernel, (0, 1, 3, 2)), strides=2, padding="same")
    return wide + conv.bias


def generated(generator: keras.Model, noise: Tensor) -> Tensor:
    """Return generator(noise, training=True), computed with `enlarged` in place of upsampling and convolution."""
    x, large = noise, False
    for layer in generator.layers:
        if isinstance(layer, keras.layers.UpSampling2D):
            large = True
            continue
        x, large = enlarged(x, layer) if large else layer(x, training=True), False
    return x


def losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the generator's and the discriminator's binary cross-entropy, from logits of real and generated images."""
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    of_generator = entropy(ops.ones_like(fake), fake)
    of_discriminator = entropy(ops.ones_like(real), real) + entropy(ops.zeros_like(fake), fake)
    return of_generator, of_discriminator


def adams(generator: keras.Model, discriminator: keras.Model, lr: float, beta1: float) -> Adams:
    """Make an optimizer for each network."""
    pair = keras.optimizers.Adam(lr, beta_1=beta1), keras.optimizers.Adam(lr, beta_1=beta1)
    for adam, network in zip(pair, (generator, discriminator), strict=True):
        adam.build(network.trainable_variables)
    return pair


def train_step(generator: keras.Model, discriminator: keras.Model, pair: Adams, backend: Backend) -> Step:
    """Return the step from images n×64×64×3 and noise m×latent to the losses of generator and discriminator.

    Both networks learn from one forward pass, each by its own Adam. n and m may differ and vary.
    """

    def both(images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        fake = generated(generator, noise)
        return losses(discriminator(images, training=True), discriminator(fake, training=True))

    return backend.learner((generator, discriminator), pair, both, (discriminator.input_shape, generator.input_shape))


def from_pixels(pixels: np.ndarray) -> np.ndarray:
    """Scale uint8 0…255 to float32 [-1, 1]."""
    return pixels.astype(np.float32) / 127.5 - 1


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Undo `from_pixels`: scale float [-1, 1] to uint8 0…255, the nearest level."""
    return np.rint((np.asarray(images) + 1) * 127.5).clip(0, 255).astype(np.uint8)


def draw(generator: keras.Model, noise: np.ndarray, chunk: int = 64) -> np.ndarray:
    """Draw images, uint8 N×64×64×3, from noise N×`latent`, `chunk` at a time, the generator in inference mode."""
    generator.jit_compile = False  # else Keras takes XLA wherever it can
    parts = [generator.predict_on_batch(noise[start : start + chunk]) for start in range(0, len(noise), chunk)]
    return to_pixels(np.concatenate(parts))
