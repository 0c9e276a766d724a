"""Study B's DCGAN: images a second of the step of lesions/gan.py, against subclasses of keras.Model under model.fit.

The same networks, optimizers, images, noise and batch, on TensorFlow. `in turn` is the loop of keras.io's example: the
discriminator learns from one generated batch, then the generator from another. `at once` has our mathematics, both from
one pass, so that its losses can be held to ours under the same seed; those of `in turn` cannot, because its generator
is judged by a discriminator that has already learnt. Op determinism (compute.deterministic) is on for all: TensorFlow
cannot switch it off again.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.common import ROOT, Row, figure, main, number, ratio, timed
from lesions import gan, params
from lesions.study_b import jit, keras, set_up, tf

COMPARED = 3  # steps whose losses are compared


@dataclass(frozen=True)
class Size:
    batch: int
    steps: int  # of an epoch
    rounds: int


SIZES = {"small": Size(4, 1, 1), "usual": Size(32, 4, 3), "full": Size(32, 22, 15)}  # 694 AK: 22 steps


class InTurn(keras.Model):
    """As keras.io's DCGAN, without its noise on the labels; data: (images, noise for one, noise for the other)."""

    def __init__(self, makes: keras.Model, judges: keras.Model) -> None:
        super().__init__()
        self.makes, self.judges = makes, judges
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("generator", "discriminator")]

    def compile(self, pair: gan.Adams) -> None:
        super().compile()
        self.pair = pair

    @property
    def metrics(self) -> list[keras.Metric]:
        return self.trackers

    def told(self, *losses: tf.Tensor) -> dict[str, tf.Tensor]:
        for tracker, loss in zip(self.trackers, losses, strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def train_step(self, batch):
        images, noise, again = batch
        generated = self.makes(noise, training=True)
        both = tf.concat([images, generated], axis=0)
        labels = tf.concat([tf.ones((tf.shape(images)[0], 1)), tf.zeros((tf.shape(noise)[0], 1))], axis=0)
        with tf.GradientTape() as tape:
            loss_judges = self.entropy(labels, self.judges(both, training=True))
        gradients = tape.gradient(loss_judges, self.judges.trainable_variables)
        self.pair[1].apply_gradients(zip(gradients, self.judges.trainable_variables, strict=True))
        with tf.GradientTape() as tape:
            fake = self.judges(self.makes(again, training=True), training=True)
            loss_makes = self.entropy(tf.ones_like(fake), fake)
        gradients = tape.gradient(loss_makes, self.makes.trainable_variables)
        self.pair[0].apply_gradients(zip(gradients, self.makes.trainable_variables, strict=True))
        return self.told(loss_makes, loss_judges)


class AtOnce(InTurn):
    def train_step(self, batch):
        images, noise, _ = batch
        with tf.GradientTape() as tape_makes, tf.GradientTape() as tape_judges:
            generated = self.makes(noise, training=True)
            real, fake = self.judges(images, training=True), self.judges(generated, training=True)
            losses = gan.losses(real, fake)
        for tape, loss, network, adam in zip(
            (tape_makes, tape_judges), losses, (self.makes, self.judges), self.pair, strict=True
        ):
            gradients = tape.gradient(loss, network.trainable_variables)
            adam.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return self.told(*losses)


def parts(setting: params.AugmentGan) -> tuple[keras.Model, keras.Model, gan.Adams]:
    """Both networks and their optimizers, from the seed."""
    keras.utils.set_random_seed(setting.seed)
    makes, judges = gan.generator(setting.latent), gan.discriminator()
    return makes, judges, gan.adams(makes, judges, setting.lr, setting.beta1)


def fitted(kind: type[InTurn], setting: params.AugmentGan) -> InTurn:
    makes, judges, pair = parts(setting)
    model = kind(makes, judges)
    model.compile(pair)
    return model


def rows(size: str) -> list[Row]:
    of = SIZES[size]
    chosen = params.load(ROOT / "params.yaml")
    setting, compute = chosen.augment_gan, chosen.compute
    set_up(compute, setting.seed)
    rng = np.random.default_rng(setting.seed)
    count = of.batch * of.steps
    real = gan.from_pixels(rng.integers(0, 256, (count, gan.SIDE, gan.SIDE, 3), np.uint8))
    noises = [rng.standard_normal((count, setting.latent), np.float32) for _ in range(2)]
    starts = range(0, count, of.batch)
    dataset = tf.data.Dataset.from_tensor_slices((real, *noises)).batch(of.batch).prefetch(tf.data.AUTOTUNE)

    def our_step() -> gan.Step:
        makes, judges, pair = parts(setting)
        return gan.train_step(makes, judges, pair, jit(compute))

    step, in_turn, at_once = our_step(), fitted(InTurn, setting), fitted(AtOnce, setting)

    def ours() -> None:
        losses = [step(real[s : s + of.batch], noises[0][s : s + of.batch]) for s in starts]
        np.array(losses, dtype=np.float64)  # as the stage reads them at the end of an epoch

    competitors = {"ours": ours, "in turn": lambda: in_turn.fit(dataset, verbose=0)}
    competitors["at once"] = lambda: at_once.fit(dataset, verbose=0)
    seconds = timed(competitors, of.rounds)
    each = {who: f"{number(count / float(np.median(found)))} images/s" for who, found in seconds.items()}
    n = f"{of.rounds} rounds of {of.steps} steps of {of.batch}"
    return [
        ratio("model.fit, in turn (keras.io)", seconds["in turn"], seconds["ours"], each["ours"], each["in turn"], n,
              at_least=1.5),
        ratio("model.fit, at once (our mathematics)", seconds["at once"], seconds["ours"], each["ours"],
              each["at once"], n),
        figure("largest difference of the losses, at once − ours", [disagreement(our_step(), setting, real, noises[0])],
               "", f"{COMPARED} steps of 4", at_most=1e-3),
    ]  # fmt: skip


def disagreement(step: gan.Step, setting: params.AugmentGan, real: np.ndarray, noise: np.ndarray) -> float:
    """How far the losses of `step` and of AtOnce lie apart over COMPARED steps from the same seed, at most."""
    ours = np.array([step(real[:4], noise[:4]) for _ in range(COMPARED)])
    one, model = tf.data.Dataset.from_tensors((real[:4], noise[:4], noise[:4])), fitted(AtOnce, setting)
    histories = [model.fit(one, verbose=0).history for _ in range(COMPARED)]
    theirs = np.array([[history[name][0] for name in ("generator", "discriminator")] for history in histories])
    return float(np.abs(ours - theirs).max())


if __name__ == "__main__":
    main(__doc__, rows)
