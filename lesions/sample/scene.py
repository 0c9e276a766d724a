"""One dermoscopic photograph of a drawn lesion: skin, view, hair, rulers, ink, gel, light, and the lesion's exact mask.

Everything is computed in float64 from a numpy Generator, so that the rounded pixels do not depend on the machine.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.ndimage import binary_fill_holes, gaussian_filter, label, map_coordinates

from lesions.sample import dermoscopy
from lesions.sample.dermoscopy import mix, ramp, smooth_noise, stamp, walks

# Source -> its picture sizes (height, width), about a sixth of the real ones.
SIZES = {
    "BCN": ((160, 160),),
    "HAM": ((144, 192),),
    "MSK": ((131, 173), (128, 192), (147, 196), (151, 181), (139, 208)),
}
TINTS = {"BCN": (0.04, -0.03, 0.00), "HAM": (0.05, -0.04, 0.02), "MSK": (0.01, 0.01, -0.03)}  # mean log gain of R, G, B
TONES = np.array([[0.84, 0.72, 0.70], [0.83, 0.70, 0.62], [0.76, 0.66, 0.64], [0.88, 0.77, 0.74], [0.74, 0.60, 0.53]])
HAIRS = np.array([[0.13, 0.09, 0.08], [0.30, 0.20, 0.14], [0.55, 0.42, 0.28], [0.85, 0.82, 0.80]])
INKS = np.array([[0.36, 0.22, 0.55], [0.22, 0.26, 0.58], [0.50, 0.25, 0.52]])
SUN_DAMAGED = {"AK": 0.8, "SCC": 0.7, "BCC": 0.4, "BKL": 0.35, "MEL": 0.25, "DF": 0.1, "NV": 0.08, "VASC": 0.15}


class Lesion(NamedTuple):
    """What every photograph of one lesion shares: its chart, and the skin around it (RGB 0..1)."""

    chart: dermoscopy.Chart
    tone: np.ndarray
    sun: float


class Photograph(NamedTuple):
    """`picture` uint8 [h, w, 3]; `mask` uint8 [h, w], 0 or 255."""

    picture: np.ndarray
    mask: np.ndarray


def lesion(name: str, seed: int, number: int) -> Lesion:
    """Return lesion `number` of the sample, of class `name`."""
    rng = np.random.default_rng([seed, number])
    chart = dermoscopy.draw(name, rng)
    tone = TONES[rng.choice(5, p=[0.3, 0.25, 0.2, 0.15, 0.1])] * np.exp(rng.normal(0, 0.03, 3))
    return Lesion(chart, tone, float(rng.random() < SUN_DAMAGED[name]) * rng.uniform(0.4, 1))


def photograph(subject: Lesion, source: str, seed: int, number: int, image: int) -> Photograph:
    """Take photograph `image` of lesion `number`, as `source` (BCN, HAM or MSK) would take it."""
    rng = np.random.default_rng([seed, number, image])
    shape = SIZES[source][rng.integers(len(SIZES[source]))]
    scene, mask = _lesion_on_skin(rng, subject, *_view(rng, subject.chart.radius, shape))
    scene = _in_front(rng, scene, source)
    scene = gaussian_filter(scene, rng.uniform(0.3, 0.85), axes=(0, 1))
    scene = scene * _light(rng, shape)[..., None] + rng.normal(0, 0.008, (*shape, 3))
    neutral = np.clip(_lens(rng, scene, source), 0, 1)
    values = np.clip(neutral * np.sqrt(3) * _illuminant(rng, source), 0, 1)  # without any gamma
    return Photograph(np.rint(values * 255).astype(np.uint8), mask)


def _view(rng: Generator, radius: float, shape: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Return chart coordinates [2, h, w] (y, x) of each pixel, and the pixels in one lesion radius."""
    scale = float(np.clip(radius * np.exp(rng.normal(0, 0.15)), 0.08, 0.56)) * min(shape)
    centre = np.array(shape) * (0.5 + np.clip(rng.normal(0, 0.045, 2), -0.1, 0.1))
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.normal(0, 0.05))
    y, x = np.mgrid[: shape[0], : shape[1]] - centre.reshape(2, 1, 1)
    y = y * stretch
    turned = np.stack([np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x])
    return (turned / scale + dermoscopy.REACH) * (dermoscopy.GRID - 1) / (2 * dermoscopy.REACH), scale


def _lesion_on_skin(rng: Generator, subject: Lesion, grid: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the scene float64 [h, w, 3], and the mask uint8 [h, w] of the lesion in it."""
    chart, shrink = subject.chart, dermoscopy.PIXELS / scale
    layers = [chart.cover, *np.moveaxis(chart.colour, 2, 0)]
    if shrink > 1.2:
        layers = [gaussian_filter(layer, 0.4 * shrink) for layer in layers]
    cover, *colour = [map_coordinates(layer, grid, order=1, cval=0) for layer in layers]
    mask = _whole(map_coordinates(chart.rho, grid, order=1, cval=9) < 1)
    scene = _skin(rng, subject, mask.shape)
    relief = 1 + 0.5 * (scene / scene.mean((0, 1)) - 1).mean(2)[..., None]  # the skin's texture shows on the lesion
    cover = cover * mask
    scene = scene + (np.stack(colour, 2) * relief - scene) * cover[..., None]
    return scene, mask.astype(np.uint8) * 255


def _whole(region: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a bool [h, w] region, without holes."""
    parts, count = label(region)
    if count > 1:
        region = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    return binary_fill_holes(region)


def _skin(rng: Generator, subject: Lesion, shape: tuple[int, int]) -> np.ndarray:
    """Draw skin float64 [h, w, 3]: mottling, pores, lines and, where the sun has damaged it, vessels and freckles."""
    mottle, flush = smooth_noise(rng, shape, 7), smooth_noise(rng, shape, 26)
    furrows = ramp(np.abs(smooth_noise(rng, shape, rng.uniform(2.5, 4))), 0.5, 0)
    y, x = rng.uniform(0, 1, (2, shape[0] * shape[1] // 90)) * np.array(shape)[:, None]
    pores = stamp(shape, y, x, 0.8)
    depth = rng.uniform(0.4, 1.3)
    bright = 1 + depth * (0.015 * mottle + 0.02 * flush - 0.045 * furrows - 0.05 * np.clip(pores, 0, 1))
    skin = subject.tone * bright[..., None]
    blush = ramp(flush + 0.4 * mottle, -1.5, 2.5) * rng.uniform(0.1, 0.8)
    skin = mix(skin, subject.tone * [1.02, 0.86, 0.88], blush)
    if subject.sun > 0:
        thin = ramp(np.abs(smooth_noise(rng, shape, rng.uniform(9, 16)) + 0.2 * mottle), 0.16, 0.02)
        vessels = thin * ramp(smooth_noise(rng, shape, 20), -0.6, 1.2)
        skin = mix(skin, subject.tone * [0.93, 0.60, 0.66], 0.4 * subject.sun * vessels)
        freckles = ramp(smooth_noise(rng, shape, 10) + 0.7 * mottle, 0.5, 2.6) * ramp(flush, -0.8, 1)
        skin = mix(skin, subject.tone * [0.82, 0.68, 0.56], 0.45 * subject.sun * freckles)
    return skin


def _in_front(rng: Generator, scene: np.ndarray, source: str) -> np.ndarray:
    """Add, each on some pictures only: ink, hair, a ruler, gel bubbles. [h, w, 3] -> [h, w, 3]."""
    ink, ruler = (0.10, 0.25) if source == "MSK" else (0.04, 0.08)
    for add, chance in ((_ink, ink), (_hair, 0.35), (_ruler, ruler), (_bubbles, 0.10)):
        if rng.random() < chance:
            scene = add(rng, scene)
    return scene


def _hair(rng: Generator, scene: np.ndarray) -> np.ndarray:
    """Add a few hairs or, on one picture in four, many; of one colour, short and straight where the skin was shaved."""
    shape, shaved = scene.shape[:2], rng.random() < 0.3
    count = int(rng.integers(25, 60)) if rng.random() < 0.2 else int(rng.integers(2, 14))
    steps = 18 if shaved else int(rng.uniform(50, 160))
    starts = rng.uniform(-0.1, 1.1, (2, count)) * np.array(shape)[:, None]
    bend = np.cumsum(rng.normal(0, 0.004, (count, steps)) + rng.normal(0, 0.009, (count, 1)) * (not shaved), axis=1)
    heading = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.6, (count, 1)) + np.repeat(bend, 2, axis=1)
    y = starts[0][:, None] + np.cumsum(np.sin(heading), axis=1) / 2
    x = starts[1][:, None] + np.cumsum(np.cos(heading), axis=1) / 2
    colour = HAIRS[rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])]
    line = np.clip(0.75 * stamp(shape, y.ravel(), x.ravel(), rng.uniform(0.4, 0.65)), 0, 1)
    return mix(scene, colour, rng.uniform(0.65, 0.95) * line)


def _ruler(rng: Generator, scene: np.ndarray) -> np.ndarray:
    """Add a millimetre scale along one side: a tick every few pixels, each fifth longer, sometimes a base line."""
    height, width = scene.shape[:2]
    pitch, start, line = rng.uniform(4, 9), rng.uniform(0.05, 0.5), rng.random() < 0.5
    marks = np.zeros((height, width))
    base = height - int(rng.uniform(4, 14))
    for k, x in enumerate(np.arange(start * width, min(width, (start + rng.uniform(0.4, 0.9)) * width), pitch)):
        marks[base - (8 if k % 5 == 0 else 4) : base, int(x)] = 1
        marks[base, int(x) : int(x + pitch)] = float(line)
    if rng.random() < 0.5:
        marks = marks[::-1]
    return mix(scene, np.array([0.12, 0.11, 0.12]), 0.85 * marks)


def _ink(rng: Generator, scene: np.ndarray) -> np.ndarray:
    """Add one or two strokes of a surgical marker near a side of the picture."""
    shape = scene.shape[:2]
    sides = np.array([[rng.uniform(0, 1), rng.choice([0.08, 0.92])] for _ in range(rng.integers(1, 3))])
    y, x = walks(rng, sides[:, 0] * shape[0], sides[:, 1] * shape[1], int(rng.uniform(25, 70)), 0.06)
    stroke = ramp(stamp(shape, y.ravel(), x.ravel(), rng.uniform(2.0, 3.5)), 0.8, 3.5)
    faint = 0.75 + 0.15 * smooth_noise(rng, shape, 5)
    return scene * mix(np.ones(3), INKS[rng.integers(3)] * 1.2, stroke * faint)


def _bubbles(rng: Generator, scene: np.ndarray) -> np.ndarray:
    """Add air in the gel: rings, bright on the side of the lamp and dark on the other."""
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]]
    for _ in range(rng.integers(2, 14)):
        centre, radius = rng.uniform(0, 1, 2) * scene.shape[:2], rng.uniform(1.5, 7)
        dy, dx = y - centre[0], x - centre[1]
        ring = np.exp(-(((np.hypot(dy, dx) - radius) / 0.8) ** 2))
        scene = scene + (0.16 * ring * (0.3 - (dy + dx) / (1.4 * radius)))[..., None]
    return scene


def _light(rng: Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return the brightness [h, w], around 1: the exposure, and a lamp that does not stand in the middle."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    tilt = rng.normal(0, 0.04, 2)
    fall = rng.uniform(0.01, 0.09)
    return np.exp(rng.normal(0.04, 0.07)) * (1 + tilt[0] * y + tilt[1] * x - fall * (x * x + y * y))


def _lens(rng: Generator, scene: np.ndarray, source: str) -> np.ndarray:
    """Darken the edge of the field of view: a black circle on some BCN pictures, dark corners on some others."""
    shape = np.array(scene.shape[:2])
    y, x = np.mgrid[: shape[0], : shape[1]] - ((shape - 1) / 2 + rng.normal(0, 0.02, 2) * shape).reshape(2, 1, 1)
    distance = np.hypot(y, x) / min(shape)
    if source == "BCN" and rng.random() < 0.45:
        radius = rng.uniform(0.44, 0.62)
        dim = 1 - 0.3 * ramp(distance, radius - 0.15, radius)
        return 0.02 + (scene * dim[..., None] - 0.02) * ramp(distance, radius + 0.01, radius - 0.015)[..., None]
    if rng.random() < {"BCN": 0.1, "HAM": 0.25, "MSK": 0.35}[source]:
        start = rng.uniform(0.45, 0.6)
        return scene * (1 - rng.uniform(0.3, 0.9) * ramp(distance, start, start + 0.3))[..., None]
    return scene


def _illuminant(rng: Generator, source: str) -> np.ndarray:
    """Return the light's colour [3], RGB of unit length: near the source's own, on one picture in eight far from it."""
    spread = np.array([0.12, 0.06, 0.12]) if rng.random() < 0.125 else np.array([0.05, 0.03, 0.05])
    colour = np.exp(np.array(TINTS[source]) + rng.normal(0, 1, 3) * spread)
    return colour / np.sqrt(np.sum(colour**2))
