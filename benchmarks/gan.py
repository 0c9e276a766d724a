"""Study B's DCGAN: images a second of the step of lesions/gan.py, against the plain loop of keras.io on its backend.

The same networks, optimizers, images, noise and batch, under model.fit (benchmarks/plain_gan.py). `in turn` is the loop
of keras.io's example: the discriminator learns from one generated batch, then the generator from another. `at once` has
our mathematics, both from one pass, so that its losses can be held to ours under the same seed (in 64 bits, since Adam
makes much of the last of 32; on torch Keras's batch normalisation has 32 all the same); those of `in turn` cannot,
because its generator is judged by a discriminator that has already learnt. Ours makes of each enlargement and its
convolution one transposed convolution (gan.enlarged). Op determinism (compute.deterministic) is on for all: TensorFlow
cannot switch it off again. The backend is keras.backend of params.yaml, or --backend.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.common import ROOT, Row, figure, main, number, ratio, timed
from lesions import keras_backend, params

BACKENDS = ("tensorflow", "torch")  # those with a plain loop
COMPARED = 3  # steps whose losses are compared


@dataclass(frozen=True)
class Size:
    batch: int
    steps: int  # of an epoch
    rounds: int


SIZES = {"small": Size(4, 1, 1), "usual": Size(32, 4, 3), "full": Size(32, 22, 15)}  # 694 AK: 22 steps


def rows(size: str, backend: str | None = None) -> list[Row]:
    of = SIZES[size]
    chosen = params.load(ROOT / "params.yaml")
    setting, compute = chosen.augment_gan, chosen.compute
    backend = backend or chosen.keras.backend
    held = keras_backend.begin(backend, compute, setting.seed)
    import keras

    from benchmarks import plain_gan
    from lesions import gan

    rng = np.random.default_rng(setting.seed)
    count = of.batch * of.steps
    real = gan.from_pixels(rng.integers(0, 256, (count, gan.SIDE, gan.SIDE, 3), np.uint8))
    noises = [rng.standard_normal((count, setting.latent), np.float32) for _ in range(2)]
    starts = range(0, count, of.batch)

    def parts() -> tuple:
        """Both networks and their optimizers, from the seed."""
        keras.utils.set_random_seed(setting.seed)
        makes, judges = gan.generator(setting.latent), gan.discriminator()
        return makes, judges, gan.adams(makes, judges, setting.lr, setting.beta1)

    step, in_turn, at_once = gan.train_step(*parts(), held), plain_gan.InTurn(*parts()), plain_gan.AtOnce(*parts())

    def ours() -> None:
        losses = [step(real[s : s + of.batch], noises[0][s : s + of.batch]) for s in starts]
        [float(loss) for pair in losses for loss in pair]  # as the stage reads them at the end of an epoch

    def fit(model: keras.Model) -> None:
        model.fit((real, *noises), batch_size=of.batch, shuffle=False, verbose=0)

    seconds = timed({"ours": ours, "in turn": lambda: fit(in_turn), "at once": lambda: fit(at_once)}, of.rounds)
    each = {who: f"{number(count / float(np.median(found)))} images/s" for who, found in seconds.items()}
    n = f"{backend}, {of.rounds} rounds of {of.steps} steps of {of.batch}"

    few = real[:4], noises[0][:4], noises[0][:4]
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    step = gan.train_step(*parts(), held)
    found = np.array([[float(loss) for loss in step(*few[:2])] for _ in range(COMPARED)])
    expected = plain_gan.losses_after(plain_gan.AtOnce(*parts()), few, COMPARED)
    return [
        ratio("model.fit, in turn (keras.io)", seconds["in turn"], seconds["ours"], each["ours"], each["in turn"], n,
              at_least=1.5),
        ratio("model.fit, at once (our mathematics)", seconds["at once"], seconds["ours"], each["ours"],
              each["at once"], n),
        figure("largest difference of the losses, at once − ours", [np.abs(found - expected).max()], "",
               f"{COMPARED} steps of 4, in 64 bits", at_most=1e-6 if backend == "tensorflow" else 0.1),
    ]  # fmt: skip


if __name__ == "__main__":
    main(__doc__, rows, backend=BACKENDS)
