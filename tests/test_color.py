"""Colour constancy by its identities, and by finding the light of a known cast."""

import numpy as np
import pytest

from lesions.pictures import color
from lesions.pictures.config import BenGraham, Illuminant, ShadesOfGray

METHODS = {
    "max_rgb": Illuminant(),
    "gray_world": Illuminant(),
    "shades_of_gray": ShadesOfGray(p=6),
    "ben_graham": BenGraham(sigma=0.1),
}


def scene(seed: int = 0, size: int = 64) -> np.ndarray:
    """A random scene that averages to grey and whose brightest patch is grey too; uint8, nothing saturated."""
    rng = np.random.default_rng(seed)
    grey = rng.integers(40, 160, (size, size, 1)).repeat(3, axis=2)
    tint = rng.normal(0, 8, (size, size, 3))
    tint -= tint.mean(axis=(0, 1))
    image = np.clip(grey + tint, 20, 165)
    image[:4, :4] = 168
    return image.round().astype(np.uint8)


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """The angular error of two illuminants, in degrees."""
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@pytest.mark.parametrize("name", METHODS)
def test_shape_type_and_determinism(name):
    correct, image = color.method(name, METHODS[name]), scene()
    before = image.copy()
    once, twice = correct(image), correct(image)
    assert once.dtype == np.uint8 and once.shape == image.shape
    assert (once == twice).all() and (image == before).all()


@pytest.mark.parametrize("name", ["max_rgb", "gray_world", "shades_of_gray"])
def test_a_grey_image_has_gain_1(name):
    grey = np.random.default_rng(1).integers(20, 230, (32, 32, 1), dtype=np.uint8).repeat(3, axis=2)
    assert (color.method(name, METHODS[name])(grey) == grey).all()


def test_gray_world_makes_the_channel_means_equal():
    cast = np.clip(scene() * np.array([1.2, 1.0, 0.8]), 0, 240).astype(np.uint8)
    means = color.method("gray_world", Illuminant())(cast).mean(axis=(0, 1))
    assert np.ptp(means) < 0.5


@pytest.mark.parametrize("light", [(1.0, 0.85, 0.7), (0.8, 0.9, 1.0), (1.0, 1.0, 0.75)])
@pytest.mark.parametrize(
    ("estimate", "within"),
    [(color.max_rgb, 2.0), (lambda i: color.shades_of_gray(i, 6), 1.0), (lambda i: color.shades_of_gray(i, 1), 0.5)],
    ids=["max_rgb", "shades_of_gray", "gray_world"],
)
def test_a_known_cast_is_recovered(light, estimate, within):
    cast = np.rint(scene() * np.array(light)).astype(np.uint8)
    assert angle(estimate(cast), np.array(light)) < within


def test_shades_of_gray_tends_to_max_rgb():
    image = np.rint(scene() * np.array([1.0, 0.8, 0.7])).astype(np.uint8)
    far, near = (angle(color.shades_of_gray(image, p), color.max_rgb(image)) for p in (2, 80))
    assert near < 0.3 and near <= far


@pytest.mark.parametrize("estimate", [color.max_rgb, lambda i: color.shades_of_gray(i, 6)])
def test_black_border_and_saturated_pixels_say_nothing(estimate):
    image = np.rint(scene() * np.array([1.0, 0.8, 0.7])).astype(np.uint8)
    spoiled = np.zeros((96, 96, 3), np.uint8) + np.array([4, 0, 9], np.uint8)
    spoiled[16:80, 16:80] = image
    spoiled[:6] = (255, 255, 40)
    assert estimate(spoiled) == pytest.approx(estimate(image), abs=1e-12)


def test_values_are_clipped_never_wrapped():
    red = np.full((16, 16, 3), (60, 230, 230), np.uint8)
    red[0, 0] = (250, 250, 250)
    out = color.corrected(red, color.normalised(np.array([0.2, 0.9, 0.9])))
    assert out[0, 0, 0] == 255  # 250 × gain 3.8 = 950, which would wrap to 182


def test_all_black_and_all_white_stay_as_they_are():
    for level in (0, 255):
        image = np.full((16, 16, 3), level, np.uint8)
        for name in ("max_rgb", "gray_world", "shades_of_gray"):
            assert (color.method(name, METHODS[name])(image) == level).all()


def test_ben_graham_turns_flat_areas_to_128():
    assert (color.ben_graham(np.full((40, 40, 3), 77, np.uint8), 0.1) == 128).all()
    edge = np.full((40, 40, 3), 60, np.uint8)
    edge[:, 20:] = 90
    out = color.ben_graham(edge, 0.1).astype(int)
    assert out[0, 19, 0] < 128 < out[0, 20, 0] and abs(out[0, 0, 0] - 128) <= 1
