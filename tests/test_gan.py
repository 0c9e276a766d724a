"""Study B: the DCGAN, its stage, and the base model with and without generated images."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import torch
import yaml
from PIL import Image

from lesions.core.errors import InputError
from lesions.core.files import read_json
from lesions.gan import base_model, dcgan, keras_backend
from lesions.gan.config import BaseModelRecipe
from lesions.gan.saving import read_images, read_set, save_model, save_state
from lesions.isic.names import CLASSES
from lesions.tools.check import Params
from lesions.training.config import Compute
from stages import augment_gan
from stages import base_model as base_model_stage
from tests import first_losses

ROOT = Path(__file__).parents[1]
COMPUTE = Compute(threads=1, amp=True, compile=False, deterministic=True)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PER_CLASS = 6  # test, val and four train
TRAIN_AK = 5  # of study B's 80/20: train and val
POISON = 255  # every pixel of every test image


@pytest.fixture(autouse=True)
def backend():
    return keras_backend.begin("tensorflow", COMPUTE, 0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def place(root: Path, side: int, **changes: dict) -> Path:
    """A repository root with params.yaml, a table of 48 images, and their array of side × side pixels."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["augment_gan"] |= {"epochs": 2, "batch": 3, "images": 7, "latent": 10, "preview_every": 5}
    content["base_model"] |= {"epochs": 2, "steps": 4, "validation_steps": 1, "batch": 12}
    for section, values in changes.items():
        content[section] |= values
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for folder in ("data/sorted", "data/resized/isic2019", "data/generated"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "data/generated/none.npy", root / "data/generated/none.npy")
    count = PER_CLASS * len(CLASSES)
    role = np.array(["test", "val", *["train"] * (PER_CLASS - 2)]).repeat(len(CLASSES))
    table = pd.DataFrame({"image": [f"ISIC_{i:07d}" for i in range(count)], "lesion": range(count)})
    table = table.assign(label=list(CLASSES) * PER_CLASS, cv0=role, balanced="")
    table.to_csv(root / "data/sorted/isic2019.csv", index=False)
    pixels = np.random.default_rng(0).integers(0, POISON, (count, side, side, 3), dtype=np.uint8)
    pixels[role == "test"] = POISON
    np.save(root / "data/resized/isic2019/gan.npy", pixels)
    return root


def call(stage, root: Path, *arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["stage", *arguments])
        stage.main()


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("name", "says"), [("tensorflow", "TensorFlow"), ("torch", "torch")])
def test_a_gpu_that_is_not_seen_is_one_line(monkeypatch, name, says):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=rf"compute\.device: cuda, but {says} sees no GPU here; choose auto or cpu"):
        keras_backend.BACKENDS[name](COMPUTE.model_copy(update={"device": "cuda"}), 0)


def test_gpus_are_hidden_from_tensorflow_where_the_cpu_is_asked_for(monkeypatch):
    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda devices, kind: hidden.append((devices, kind)))
    keras_backend.begin("tensorflow", COMPUTE.model_copy(update={"device": "cpu"}), 0)
    keras_backend.begin("tensorflow", COMPUTE, 0)
    assert hidden == [([], "GPU")]


class TestNetworks:
    """Against study B's listing, layer by layer."""

    @staticmethod
    def layers(network: keras.Model) -> list[tuple[str, tuple]]:
        return [(layer.name, tuple(layer.output.shape[1:])) for layer in network.layers]

    def test_generator(self):
        expected = [("dense", (4096,)), ("reshape", (4, 4, 256))]
        for number, (side, into, out) in enumerate(
            ((8, 256, 256), (16, 256, 256), (32, 256, 128), (64, 128, 128)), start=1
        ):
            expected.append((f"up{number}", (side, side, into)))
            expected += [(f"{part}{number}", (side, side, out)) for part in ("conv", "norm", "relu")]
        assert self.layers(dcgan.generator(100)) == [*expected, ("conv5", (64, 64, 3)), ("tanh", (64, 64, 3))]

    def test_discriminator(self):
        expected = [(f"{part}1", (32, 32, 32)) for part in ("conv", "leaky", "drop")]
        expected += [("conv2", (16, 16, 64)), ("pad", (17, 17, 64))]
        for number, (side, channels) in enumerate(((17, 64), (9, 128), (9, 256), (9, 512)), start=2):
            parts = ("conv", "norm", "leaky", "drop")[number == 2 :]
            expected += [(f"{part}{number}", (side, side, channels)) for part in parts]
        assert self.layers(dcgan.discriminator()) == [*expected, ("flatten", (9 * 9 * 512,)), ("logit", (1,))]

    @pytest.mark.parametrize(("network", "strides"), [("generator", [1] * 5), ("discriminator", [2, 2, 2, 1, 1])])
    def test_settings(self, network, strides):
        layers = (dcgan.generator(100) if network == "generator" else dcgan.discriminator()).layers
        convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D)]
        assert [layer.strides for layer in convolutions] == [(stride, stride) for stride in strides]
        kinds = {(c.kernel_size, c.padding, c.activation.__name__, c.use_bias) for c in convolutions}
        assert kinds == {((3, 3), "same", "linear", True)}
        assert [layer.momentum for layer in layers if isinstance(layer, keras.layers.BatchNormalization)] == [0.8] * 4
        count = 5 if network == "discriminator" else 0
        leaks = [layer.negative_slope for layer in layers if isinstance(layer, keras.layers.LeakyReLU)]
        assert leaks == pytest.approx([0.2] * count)
        assert [layer.rate for layer in layers if isinstance(layer, keras.layers.Dropout)] == [0.25] * count

    def test_tanh_range(self, rng):
        images = dcgan.generator(10)(1e3 * rng.standard_normal((4, 10), np.float32), training=False).numpy()
        assert images.min() >= -1 and images.max() <= 1 and images.std() > 0

    def test_logits(self, rng):
        discriminator = dcgan.discriminator()
        assert discriminator.layers[-1].activation is keras.activations.linear
        bias = discriminator.layers[-1].bias
        images = rng.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
        before = discriminator(images, training=False).numpy()
        bias.assign([5.0])
        assert discriminator(images, training=False).numpy() == pytest.approx(before + 5, abs=1e-5)


class TestStep:
    def test_losses_by_hand(self, rng):
        real, fake = rng.standard_normal((2, 9, 1)) * 5
        generator, discriminator = dcgan.losses(tf.constant(real), tf.constant(fake))
        assert float(generator) == pytest.approx(np.log1p(np.exp(-fake)).mean(), rel=1e-5)
        expected = np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean()
        assert float(discriminator) == pytest.approx(expected, rel=1e-5)

    def test_pixels(self):
        levels = np.arange(256, dtype=np.uint8)
        assert (dcgan.from_pixels(levels)[[0, 255]] == [-1, 1]).all()
        assert np.array_equal(dcgan.to_pixels(dcgan.from_pixels(levels)), levels)

    def test_generated_is_the_generator(self, rng):
        """Images, gradients and running means; in 64 bits, where sums in another order hardly differ."""
        keras.config.set_dtype_policy("float64")
        generator = dcgan.generator(10)
        keras.config.set_dtype_policy("float32")
        start, noise = generator.get_weights(), rng.standard_normal((2, 10), np.float32)
        weight, found = rng.random((2, 64, 64, 3)), []
        for forward in (lambda: generator(noise, training=True), lambda: dcgan.generated(generator, noise)):
            generator.set_weights(start)
            with tf.GradientTape() as tape:
                images = forward()
                loss = tf.reduce_sum(images * weight)
            gradients = tape.gradient(loss, generator.trainable_variables)
            found.append([images, *gradients, *generator.get_weights()])
        for plain, ours in zip(*found, strict=True):
            assert np.asarray(ours).dtype == np.float64
            assert np.asarray(ours) == pytest.approx(np.asarray(plain), rel=1e-6, abs=1e-8)

    @pytest.mark.parametrize("side", [(4, 4), (3, 5)])
    def test_enlarged_is_upsampling_and_convolution(self, rng, side):
        conv = keras.layers.Conv2D(7, 3, padding="same", bias_initializer="normal")
        x = rng.standard_normal((2, *side, 6)).astype(np.float32)
        expected = conv(keras.layers.UpSampling2D(2)(x)).numpy()
        assert dcgan.enlarged(x, conv).numpy() == pytest.approx(expected, abs=1e-5)


class TestParts:
    def test_grid(self):
        images = np.zeros((3, 10, 20, 3), np.uint8)
        picture = augment_gan.grid(images, 2)
        assert picture.shape == (16 + 2 * 26, 16 + 2 * 36, 3)
        expected = np.full_like(picture, 255)
        expected[16:26, 16:36] = expected[16:26, 52:72] = expected[42:52, 16:36] = 0
        assert np.array_equal(picture, expected)

    def test_saved_model_is_stable_and_safe(self, tmp_path, rng):
        for name in ("one", "two"):
            generator = dcgan.generator(10)
            save_model(generator, tmp_path / f"{name}.keras")
            keras.utils.clear_session()
            keras.utils.set_random_seed(0)
        assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
        with zipfile.ZipFile(tmp_path / "one.keras") as archive:
            assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
            assert json.loads(archive.read("metadata.json"))["date_saved"].startswith("1980")
        loaded = keras.models.load_model(tmp_path / "one.keras", safe_mode=True)
        assert same(loaded.get_weights(), generator.get_weights())
        noise = rng.standard_normal((3, 10), np.float32)
        assert np.array_equal(dcgan.draw(loaded, noise), dcgan.draw(generator, noise))

    def test_read_set(self, tmp_path):
        root = place(tmp_path, 8)
        table, images = root / "data/sorted/isic2019.csv", root / "data/resized/isic2019/gan.npy"
        assert [len(found) for found in read_set(table, images)] == [48, 48]
        np.save(images, np.zeros((5, 8, 8, 3), np.uint8))
        with pytest.raises(InputError, match="5 images for 48 rows"):
            read_set(table, images)
        with pytest.raises(InputError, match=r"no\.csv: not found; run python -m stages\.sort"):
            read_set(tmp_path / "no.csv", images)
        with pytest.raises(InputError, match=r"no\.npy: not found; run "):
            read_images(tmp_path / "no.npy")
        np.save(images, np.zeros((5, 8, 8), np.float32))
        with pytest.raises(InputError, match="expected uint8"):
            read_images(images)


@pytest.fixture(scope="module")
def gan_run(tmp_path_factory):
    """The stage run; what it fed to its training steps; the networks with their first weights; their step."""
    seen, networks, steps, train_step = [], [], [], dcgan.train_step

    def spy(generator, discriminator, *settings):
        networks.extend((network, network.get_weights()) for network in (generator, discriminator))
        step = train_step(generator, discriminator, *settings)
        steps.append(step)

        def spied(images, noise):
            seen.append((images, noise))
            return step(images, noise)

        return spied

    root = place(tmp_path_factory.mktemp("gan") / "root", 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcgan, "train_step", spy)
        call(augment_gan, root)
    return root, seen, networks, steps[0]


class TestAugmentGan:
    def test_outputs(self, gan_run):
        root = gan_run[0]
        generated = np.load(root / "data/generated/AK.npy")
        assert (generated.shape, generated.dtype) == ((7, 64, 64, 3), np.uint8)
        assert len(np.unique(generated, axis=0)) == 7
        losses = pd.read_csv(root / "plots/gan/losses.csv")
        assert list(losses) == ["epoch", "generator", "discriminator"]
        assert list(losses["epoch"]) == [1, 2] and np.isfinite(losses).all(axis=None)
        previews = sorted((root / "plots/gan/previews").iterdir())
        assert [path.name for path in previews] == [f"epoch-000{epoch}.png" for epoch in (1, 2)]
        with Image.open(previews[0]) as preview:
            assert (preview.mode, preview.size) == ("RGB", (16 + 7 * 80, 16 + 7 * 80))
        loaded = keras.models.load_model(root / "models/gan/generator.keras", safe_mode=True)
        noise = np.random.default_rng([0, augment_gan.GENERATED]).standard_normal((7, 10), np.float32)
        assert np.array_equal(dcgan.draw(loaded, noise), generated)

    def test_both_learn(self, gan_run):
        """In one trace, though the last batch is smaller."""
        _, _, networks, step = gan_run
        assert step.experimental_get_tracing_count() == 1
        for network, first in networks:
            kernels = [(a, b) for a, b in zip(first, network.get_weights(), strict=True) if a.ndim > 1]
            assert all(np.isfinite(b).all() and not np.array_equal(a, b) for a, b in kernels)

    @pytest.mark.slow
    def test_same_bytes(self, gan_run):
        ours = digests(gan_run[0])
        call(augment_gan, gan_run[0])
        assert digests(gan_run[0]) == ours
        assert {"data/generated/AK.npy", "models/gan/discriminator.keras", "plots/gan/generated.png"} <= ours.keys()
        assert not [name for name in ours if ".part" in name]

    def test_training_images_only(self, gan_run):
        root, seen = gan_run[:2]
        table, images = read_set(root / "data/sorted/isic2019.csv", root / "data/resized/isic2019/gan.npy")
        allowed = augment_gan.training_images(table, images, "AK")
        assert len(allowed) == TRAIN_AK and not (allowed == POISON).all(axis=(1, 2, 3)).any()
        assert [len(images) for images, _ in seen] == [3, 2] * 2 and {len(noise) for _, noise in seen} == {3}
        fed = {image.tobytes() for images, _ in seen for image in images}
        assert fed == {image.tobytes() for image in dcgan.from_pixels(allowed)}

    def test_a_loss_that_is_not_finite_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dcgan, "train_step", lambda *settings: lambda images, noise: (np.nan, 1.0))
        root = place(tmp_path, 64)
        with pytest.raises(InputError, match=r"augment_gan: a loss is not finite in epoch 1; expected a smaller lr"):
            call(augment_gan, root)
        assert not (root / "models").exists() and not list(root.rglob("*.part"))

    def test_too_few_images(self, tmp_path):
        with pytest.raises(InputError, match=r"5 training images of AK; expected one batch of 6"):
            call(augment_gan, place(tmp_path, 64, augment_gan={"batch": 6}))

    def test_wrong_size(self, tmp_path):
        with pytest.raises(InputError, match="32×32; expected 64×64"):
            call(augment_gan, place(tmp_path, 32))


class TestBackbone:
    SIZE = (32, 32)

    @pytest.fixture
    def backbone(self):
        return base_model.backbone(self.SIZE, None)

    @pytest.mark.slow
    def test_the_head_on_features_is_the_whole_model(self, backbone, rng):
        """With the same weights it predicts and learns the same; the backbone stays as it was."""
        pixels, rows = rng.integers(0, 256, (10, *self.SIZE, 3), dtype=np.uint8), np.arange(10)[::-1]
        head = base_model.head(1e-3)
        whole = keras.Sequential([keras.layers.Input((*self.SIZE, 3)), backbone, keras.layers.Dense(8, "softmax")])
        whole.compile(keras.optimizers.SGD(1e-3), loss="categorical_crossentropy", jit_compile=False)
        before = 0.01 * rng.standard_normal((2048, 8))
        for model in (head, whole):
            model.layers[-1].set_weights([before, np.zeros(8)])
        found, frozen = base_model.features(backbone, pixels, rows, chunk=4), backbone.get_weights()
        inputs = keras.applications.resnet.preprocess_input(pixels[rows].astype(np.float32))
        expected = whole(inputs, training=False).numpy()
        assert expected.std() > 0.01
        assert head(found, training=False).numpy() == pytest.approx(expected, abs=1e-4)
        labels = np.eye(8, dtype=np.float32)[rng.integers(0, 8, 10)]
        for part in (slice(0, 5), slice(5, 10)):
            head.train_on_batch(found[part], labels[part])
            whole.train_on_batch(inputs[part], labels[part])
        learnt, expected = (model.layers[-1].kernel.numpy() for model in (head, whole))
        assert learnt == pytest.approx(expected, abs=1e-4) and np.abs(learnt - before).max() > 1e-3
        assert same(backbone.get_weights(), frozen)

    def test_weights_from_a_file(self, backbone, tmp_path):
        """The published file's layout: topmost the layers, their weights in order; its name has no suffix."""
        path = tmp_path / "keras_resnet50"
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [layer.name.encode() for layer in backbone.layers]
            for layer in backbone.layers:
                group, names = file.create_group(layer.name), []
                for number, weight in enumerate(layer.get_weights()):
                    names.append(f"{layer.name}/{number}:0".encode())
                    group[names[-1].decode()] = weight
                group.attrs["weight_names"] = names
        keras.utils.set_random_seed(1)
        other = base_model.backbone(self.SIZE, path)
        assert same(other.get_weights(), backbone.get_weights())
        assert not other.trainable_variables
        path.write_bytes(b"not weights")
        with pytest.raises(InputError, match="not weights of resnet50"):
            base_model.backbone(self.SIZE, path)
        with pytest.raises(InputError, match="not found"):
            base_model.backbone(self.SIZE, tmp_path / "none")

    def test_too_small(self):
        with pytest.raises(InputError, match="16×40; ResNet50 expects 32×32"):
            base_model.backbone((16, 40), None)


class TestReport:
    def test_by_hand(self):
        labels = np.array([0, 0, 0, 1, 1, 2])
        predicted = np.array([0, 0, 1, 1, 0, 0])
        found = base_model.scores(labels, np.eye(8)[predicted])
        assert list(found) == ["accuracy", "bma", "f1"] and found["accuracy"] == 3 / 6
        assert found["bma"] == pytest.approx((2 / 3 + 1 / 2) / 3, abs=1e-6)  # of the three classes that there are
        assert found["f1"] == pytest.approx((4 / 7 + 2 / 4) / 8, abs=1e-6)

    def test_shuffled_passes_go_on(self, rng):
        batches = base_model_stage.batches((np.arange(10)[:, None], np.arange(10) % 8), 4, rng)
        found = [next(batches) for _ in range(6)]
        assert [len(features) for features, _ in found] == [4, 4, 2] * 2
        for start in (0, 3):
            features, labels = (np.concatenate(of) for of in zip(*found[start : start + 3], strict=True))
            assert sorted(features[:, 0]) == list(range(10))
            assert (labels.argmax(axis=1) == features[:, 0] % 8).all() and (labels.sum(axis=1) == 1).all()


@pytest.fixture(scope="module")
def base_run(tmp_path_factory):
    """The stage without and with generated images (64×64, fitted to the set's 32×32), on a small backbone."""
    root, parts, train = place(tmp_path_factory.mktemp("base") / "root", 32), [], base_model_stage.train

    def spy(head, training, test, recipe):
        parts.append((training, test))
        return train(head, training, test, recipe)

    def small(size, weights):
        layers = [keras.layers.Input((*size, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2048)]
        return keras.Sequential(layers)

    np.save(root / "data/generated/AK.npy", np.full((4, 64, 64, 3), 7, np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base_model_stage, "train", spy)
        patch.setattr(base_model, "backbone", small)
        for name in ("base_64", "base_64_ak"):
            call(base_model_stage, root, name)
    return root, parts


class TestBaseModel:
    def test_generated_images_in_training_only(self, base_run):
        (plain, test), (more, test_again) = base_run[1]
        assert len(plain[0]) == 5 * 8 and len(test[0]) == 8
        assert same(plain, [values[:-4] for values in more]) and same(test, test_again)
        assert set(more[1][-4:]) == {CLASSES.index("AK")}
        assert (more[0][-4:] == more[0][-1]).all()
        poison = test[0][0]  # every test image is white, and no training image is
        assert np.allclose(test[0], poison) and not np.isclose(more[0], poison).all(axis=1).any()

    def test_outputs(self, base_run):
        root = base_run[0]
        table = pd.read_csv(root / "data/predictions/base_model/base_64_ak.csv")
        assert list(table) == ["image", "split", "seed", "checkpoint", "label", *(f"p_{name}" for name in CLASSES)]
        assert list(table["image"]) == [f"ISIC_{i:07d}" for i in range(8)] and list(table["label"]) == list(CLASSES)
        assert table.filter(like="p_").sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
        assert set(zip(table["split"], table["checkpoint"], table["seed"], strict=True)) == {("test", "last", 0)}
        history = pd.read_csv(root / "plots/base_model/base_64.csv")
        assert list(history) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"] and len(history) == 2
        found = read_json(root / "metrics/base_model/base_64.json")
        assert found.keys() == {"accuracy", "bma", "f1"} and found["bma"] == pytest.approx(1 / 8)
        head = base_model.head(0.01)
        head.load_weights(root / "models/base_model/base_64_ak.weights.h5")
        expected = head.predict(base_run[1][1][1][0], verbose=0)
        assert table.filter(like="p_").to_numpy() == pytest.approx(expected, abs=1e-5)

    def test_epochs_go_on_where_the_last_stopped(self, rng):
        """2 epochs of 2 steps of 3 over 9 images: the fourth batch opens the second pass."""
        part = (rng.standard_normal((9, 2048)).astype(np.float32), rng.integers(0, 8, 9))
        recipe = BaseModelRecipe(epochs=2, steps=2, validation_steps=1, batch=3, lr=0.01, weights="none", seed=0)
        one, two = base_model.head(0.01), base_model.head(0.01)
        two.set_weights(one.get_weights())
        base_model_stage.train(one, part, part, recipe)
        rows = base_model_stage.batches(part, 3, np.random.default_rng([0, base_model_stage.TRAINING]))
        for _ in range(4):
            two.train_on_batch(*next(rows))
        assert one.layers[-1].kernel.numpy() == pytest.approx(two.layers[-1].kernel.numpy(), abs=1e-5)

    @pytest.mark.slow
    def test_same_bytes(self, tmp_path):
        """With the real backbone."""
        root, found = place(tmp_path, 32), []
        for _ in range(2):
            call(base_model_stage, root, "base_64")
            found.append(digests(root))
        assert found[0] == found[1] and "models/base_model/base_64.weights.h5" in found[0]

    def test_a_loss_that_is_not_finite_is_named(self):
        features = np.full((12, 2048), np.inf, np.float32)
        part, recipe = (features, np.zeros(12, int)), Params.model_validate(PARAMS).base_model
        with pytest.raises(InputError, match=r"base_model: the loss is not finite in epoch 1; expected a smaller lr"):
            base_model_stage.train(base_model.head(0.01), part, part, recipe)

    def test_missing_generated_images(self, tmp_path):
        with pytest.raises(InputError, match=r"AK.npy: not found; run "):
            call(base_model_stage, place(tmp_path, 32), "base_64_ak")


LOADED = "import sys; print(*[name for name in ('tensorflow', 'torch') if name in sys.modules])"
STAGE = f"from stages import {{0}} as stage; stage.main(); {LOADED}"
CUT_OFF = """
import os
from lesions.core import resume
from stages import augment_gan

save = resume.Run.save
resume.Run.save = lambda run, write: (save(run, write), os._exit(9))
augment_gan.main()
"""


def alone(code: str, folder: Path, *arguments: str, rc: int = 0, **environment: str) -> str:
    """What `code` says in a process of its own: a process has one backend."""
    path = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, env=os.environ | path | environment, capture_output=True, text=True)
    assert done.returncode == rc, done.stderr
    return done.stdout


@pytest.mark.slow
class TestBackends:
    def test_the_base_model_on_torch_loads_it_alone_and_repeats_its_bytes(self, tmp_path):
        root, found = place(tmp_path, 64, keras={"backend": "torch"}), []
        for _ in range(2):
            assert alone(STAGE.format("base_model"), root, "base_64").splitlines()[-1].split() == ["torch"]
            found.append(digests(root))
        assert found[0] == found[1] and len(found[0]) > 7

    @pytest.mark.parametrize(("stage", "name"), [("augment_gan", ()), ("base_model", ("base_64",))])
    def test_tensorflow_loads_no_torch(self, tmp_path, stage, name):
        root = place(tmp_path, 64, augment_gan={"epochs": 1})
        assert alone(STAGE.format(stage), root, *name).splitlines()[-1].split() == ["tensorflow"]

    def test_a_run_that_was_cut_off_ends_with_the_same_bytes(self, tmp_path):
        whole, cut = (place(tmp_path / name, 64, keras={"backend": "torch"}) for name in ("whole", "cut"))
        assert alone(STAGE.format("augment_gan"), whole).splitlines()[-1].split() == ["torch"]
        alone(CUT_OFF, cut, rc=9, LESIONS_CHECKPOINT_EVERY="0")
        assert list(cut.glob(".checkpoints/augment_gan/*/state.npz"))
        alone(STAGE.format("augment_gan"), cut)
        outputs = [
            {name: sha for name, sha in digests(root).items() if not name.startswith(".checkpoints")}
            for root in (whole, cut)
        ]
        assert outputs[0] == outputs[1] and len(outputs[0]) > 10

    def test_torch_has_tensorflows_losses(self, tmp_path, backend):
        """From the same weights, to the tolerance of sums in another order: an Intel CPU with AMX gives .0015."""
        expected = first_losses.of(backend, lambda parts: save_state(parts, tmp_path / "state.npz"))
        code = "from tests import first_losses; first_losses.main()"
        found = json.loads(alone(code, tmp_path, "torch", COMPUTE.model_dump_json()).splitlines()[-1])
        assert np.array(found) == pytest.approx(np.array(expected), rel=3e-3)
        assert np.ptp(expected, axis=0).min() > 0.01
