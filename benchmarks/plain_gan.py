"""The DCGAN under model.fit, as keras.io writes it for TensorFlow and for torch; for benchmarks/gan.py."""

import keras
import numpy as np
from keras import ops

from lesions import gan


def learn_tensorflow(networks, adams, losses):
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        found = losses()
    gradients = [tape.gradient(loss, of.trainable_variables) for loss, of in zip(found, networks, strict=True)]
    for adam, of, network in zip(adams, gradients, networks, strict=True):
        adam.apply_gradients(zip(of, network.trainable_variables, strict=True))
    return found


def learn_torch(networks, adams, losses):
    import torch

    found, gradients = losses(), []
    for loss, network in zip(found, networks, strict=True):
        for each in networks:
            each.zero_grad()
        loss.backward(retain_graph=loss is not found[-1])
        gradients.append([variable.value.grad for variable in network.trainable_variables])
    with torch.no_grad():
        for adam, of, network in zip(adams, gradients, networks, strict=True):
            adam.apply(of, network.trainable_variables)
    return found


LEARN = {"tensorflow": learn_tensorflow, "torch": learn_torch}


class InTurn(keras.Model):
    """As keras.io's DCGAN, without its noise on the labels; x: (images, noise for one, noise for the other)."""

    def __init__(self, makes: keras.Model, judges: keras.Model, pair: gan.Adams) -> None:
        super().__init__()
        self.makes, self.judges = makes, judges
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("generator", "discriminator")]
        self.compile()
        self.built = True  # its networks are
        self.pair, self.learn = pair, LEARN[keras.backend.backend()]

    @property
    def metrics(self) -> list[keras.Metric]:
        return self.trackers

    def train_step(self, batch):
        for tracker, loss in zip(self.trackers, self.losses_of(*batch[0]), strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def losses_of(self, images, noise, again):
        both = ops.concatenate([images, self.makes(noise, training=True)], axis=0)
        labels = ops.concatenate([ops.ones((ops.shape(images)[0], 1)), ops.zeros((ops.shape(noise)[0], 1))], axis=0)
        (judged,) = self.learn(
            [self.judges], self.pair[1:], lambda: [self.entropy(labels, self.judges(both, training=True))]
        )

        def fooled():
            fake = self.judges(self.makes(again, training=True), training=True)
            return [self.entropy(ops.ones_like(fake), fake)]

        (made,) = self.learn([self.makes], self.pair[:1], fooled)
        return made, judged


class AtOnce(InTurn):
    def losses_of(self, images, noise, again):
        def both():
            generated = self.makes(noise, training=True)
            return gan.losses(self.judges(images, training=True), self.judges(generated, training=True))

        return self.learn([self.makes, self.judges], self.pair, both)


def losses_after(model: InTurn, batch: tuple[np.ndarray, ...], steps: int) -> np.ndarray:
    """Losses of generator and discriminator, `steps`×2, of so many steps on the one batch."""
    found = []
    for _ in range(steps):
        model.reset_metrics()
        said = model.train_on_batch(batch, return_dict=True)
        found.append([float(said[tracker.name]) for tracker in model.trackers])
    return np.array(found)
