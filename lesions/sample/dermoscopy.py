"""The structures of the eight classes, drawn on a chart: one square per lesion, from which its photographs are taken.

A chart covers -REACH..REACH in both directions, in units of the lesion's largest radius, on GRID x GRID points.
All fields are float64 [GRID, GRID]; colours are reflectances 0..1 under white light, RGB.
"""

from collections.abc import Callable
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

GRID = 160
REACH = 1.2
PIXELS = GRID / (2 * REACH)  # chart points in one lesion radius

LIGHT_BROWN = np.array([0.68, 0.45, 0.30])
BROWN = np.array([0.46, 0.27, 0.17])
DARK_BROWN = np.array([0.26, 0.14, 0.10])
BLACK = np.array([0.11, 0.08, 0.09])
BLUE_GREY = np.array([0.39, 0.41, 0.49])
PINK = np.array([0.83, 0.56, 0.55])
RED = np.array([0.73, 0.29, 0.31])
DARK_RED = np.array([0.45, 0.10, 0.16])
PURPLE = np.array([0.40, 0.21, 0.36])
WHITE = np.array([0.90, 0.82, 0.79])
KERATIN = np.array([0.90, 0.82, 0.64])
YELLOW = np.array([0.77, 0.57, 0.39])


class Chart(NamedTuple):
    """`colour` [GRID, GRID, 3] and `cover` [GRID, GRID], 0..1; `rho` is 1 on the border, and `cover` 0 outside.

    `radius`: the lesion's usual one, in parts of a photograph's shorter side, 0.08..0.52.
    """

    colour: np.ndarray
    cover: np.ndarray
    rho: np.ndarray
    radius: float


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, smooth between; `low` may be the larger one."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: np.ndarray, b: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """Return colour `a` (one, or a field of them) with `weight`, a number or [GRID, GRID], of colour `b`."""
    return a + (b - a) * np.clip(weight, 0, 1)[..., None]


def smooth_noise(rng: Generator, shape: tuple[int, int], pitch: float) -> np.ndarray:
    """Return cubic B-spline noise of mean 0 and deviation 1 whose grains are `pitch` points wide, at least one."""
    pitch = max(pitch, 1.0)
    field = rng.standard_normal((int(shape[0] / pitch) + 5, int(shape[1] / pitch) + 5))
    field = _spline(_spline(field, shape[0], pitch).T, shape[1], pitch).T
    return (field - field.mean()) / (field.std() + 1e-9)


def _spline(knots: np.ndarray, length: int, pitch: float) -> np.ndarray:
    """Return the cubic B-spline of `knots` [n, m] on its first axis, at `length` points `1 / pitch` knots apart."""
    at = np.arange(length) / pitch
    first = at.astype(int)
    t = (at - first)[:, None]
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    return sum(weight * knots[first + k] for k, weight in enumerate(weights)) / 6


def stamp(shape: tuple[int, int], y: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """Return Gaussian spots of about height 1 at those points (y, x) inside `shape`; points in a line add up."""
    inside = (y >= 0) & (x >= 0) & (y < shape[0] - 1) & (x < shape[1] - 1)
    y, x = y[inside], x[inside]
    top, left = y.astype(int), x.astype(int)
    down, right = y - top, x - left
    marks = np.zeros(shape)
    for i, part_y in ((0, 1 - down), (1, down)):
        for j, part_x in ((0, 1 - right), (1, right)):
            np.maximum.at(marks, (top + i, left + j), part_y * part_x)
    return gaussian_filter(marks * (2 * np.pi * sigma**2), sigma, mode="constant")


def walks(rng: Generator, y: np.ndarray, x: np.ndarray, steps: int, wander: float) -> tuple[np.ndarray, np.ndarray]:
    """Return random curves from the starts (y, x) [n]: two arrays [n, steps]; each step turns by about `wander`."""
    heading = rng.uniform(0, 2 * np.pi, (len(y), 1)) + np.cumsum(rng.normal(0, wander, (len(y), steps)), axis=1)
    return y[:, None] + np.cumsum(np.sin(heading), axis=1), x[:, None] + np.cumsum(np.cos(heading), axis=1)


class Draft:
    """An outline, and the pens to draw with inside it."""

    def __init__(self, rng: Generator, lobes: float, elongation: float) -> None:
        """Draw an outline. `lobes`: its irregularity, 0 to about 0.3; `elongation`: long over short axis less one."""
        self.rng = rng
        axis = np.linspace(-REACH, REACH, GRID)
        x, y = np.meshgrid(axis, axis)
        y = y * (1 + abs(elongation))
        self.theta, self.r = np.arctan2(y, x), np.hypot(x, y)
        turn, order = np.linspace(-np.pi, np.pi, 721), np.arange(2, 10)
        size, phase = lobes * rng.standard_normal(8) / (order - 1) ** 0.8, rng.uniform(0, 2 * np.pi, 8)
        radius = np.maximum(1 + np.sum(size * np.cos(np.multiply.outer(turn, order) + phase), axis=1), 0.45)
        self.rho = self.r / np.interp(self.theta, turn, radius / radius.max())

    def noise(self, size: float) -> np.ndarray:
        """Return noise with grains of `size` lesion radii, and finer ones in them; mean 0, deviation about 1."""
        octaves = [0.5**k * smooth_noise(self.rng, (GRID, GRID), size * PIXELS / 2**k) for k in range(3)]
        return np.asarray(sum(octaves)) / 1.15

    def network(self, mesh: float) -> np.ndarray:
        """Return, 0..1, a net of lines around holes about `mesh` radii apart."""
        return ramp(np.abs(smooth_noise(self.rng, (GRID, GRID), mesh * PIXELS)), 0.8, 0.05)

    def points(self, count: SupportsIndex, within: float) -> tuple[np.ndarray, np.ndarray]:
        """Return `count` points (y, x) at random where rho < `within`."""
        chosen = self.rng.choice(np.flatnonzero(self.rho < within), count)
        return (chosen // GRID).astype(float), (chosen % GRID).astype(float)

    def dots(self, count: SupportsIndex, radius: float, within: float = 0.92) -> np.ndarray:
        """Return, 0..1, `count` roundish spots of `radius` lesion radii."""
        y, x = self.points(count, within)
        return ramp(stamp((GRID, GRID), y, x, max(radius * PIXELS, 0.8)), 0.15, 1.0)

    def vessels(
        self, count: SupportsIndex, length: float, wander: float, width: float, within: float = 0.9
    ) -> np.ndarray:
        """Return, 0..1, curved lines of `length` radii, `width` chart points."""
        y, x = walks(self.rng, *self.points(count, within), int(length * PIXELS), wander)
        return np.clip(0.7 * stamp((GRID, GRID), y.ravel(), x.ravel(), width), 0, 1)

    def tree(self, stems: int) -> np.ndarray:
        """Return, 0..1, arborising vessels: stems, then finer branches that leave them."""
        y, x = walks(self.rng, *self.points(stems, 0.9), int(0.9 * PIXELS), 0.12)
        leave = self.rng.integers(0, y.size, 5 * stems)
        by, bx = walks(self.rng, y.ravel()[leave], x.ravel()[leave], int(0.4 * PIXELS), 0.2)
        thick = 0.45 * stamp((GRID, GRID), y.ravel(), x.ravel(), 0.9)
        return np.clip(thick + 0.5 * stamp((GRID, GRID), by.ravel(), bx.ravel(), 0.6), 0, 1)

    def cover(self, soft: float, ragged: float, pitch: float = 0.12) -> np.ndarray:
        """Return how much the lesion hides the skin, 0..1: more over `soft` radii from the border inwards, raggedly."""
        bite = np.clip(0.5 + 0.6 * self.noise(pitch), 0, 2)
        return 1 - (1 - np.clip((1 - self.rho - ragged * bite) / soft, 0, 1)) ** 2


def _naevus(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    dark = d.rng.beta(2, 2)
    light, deep = mix(LIGHT_BROWN, BROWN, dark), mix(BROWN, DARK_BROWN, dark * 1.2)
    depth = 0.15 + 0.65 * ramp(d.rho, 1.0, rng.uniform(0.0, 0.5)) + 0.16 * d.noise(0.25) + 0.06 * d.noise(0.05)
    colour = mix(light, deep, depth)
    kind = rng.random()
    if kind < 0.5:
        net = d.network(rng.uniform(0.06, 0.1)) * ramp(d.rho, 1, 0.5)
        colour = mix(colour, deep * 0.75, rng.uniform(0.4, 0.8) * net)
    elif kind < 0.75:
        colour = mix(colour, deep * 0.7, 0.7 * d.dots(rng.integers(30, 90), 0.035))
    elif kind < 0.9:
        colour = mix(colour, PINK * 0.92, 0.5 + 0.2 * d.noise(0.3))
    return colour, d.cover(rng.uniform(0.15, 0.5), 0.07) * rng.uniform(0.75, 1)


def _melanoma(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    slope = 0.6 * (np.cos(d.theta + rng.uniform(0, 6.28)) * d.r)
    zone = slope + 0.5 * d.noise(0.4) + 0.25 * d.noise(0.12)
    colour = mix(mix(LIGHT_BROWN, BROWN, 0.5 + 0.4 * d.noise(0.15)), DARK_BROWN, ramp(zone, -0.6, 0.5))
    colour = mix(colour, BLACK, 0.9 * ramp(zone, 0.3, 1.2))
    net = d.network(rng.uniform(0.08, 0.15)) * ramp(d.noise(0.4), -0.3, 0.5)
    colour = mix(colour, DARK_BROWN, 0.6 * net)
    veil = ramp(d.noise(0.45) - 0.5 * d.rho, rng.uniform(-0.2, 1.0), 1.8)
    colour = mix(colour, BLUE_GREY * 0.85, 0.8 * veil)
    patch = rng.choice([PINK * 0.9, WHITE * 0.85, RED * 0.9], p=[0.5, 0.25, 0.25])
    colour = mix(colour, patch, rng.uniform(0.2, 0.8) * ramp(d.noise(0.4), 0.4, 1.6))
    colour = mix(colour, BLACK, 0.8 * d.dots(rng.integers(3, 25), 0.02, 1.0))
    if rng.random() < 0.1:
        colour = mix(colour, RED * 0.9, np.full(d.rho.shape, 0.45))
    return colour, d.cover(rng.uniform(0.12, 0.35), 0.09, 0.2) * rng.uniform(0.85, 1)


def _basal_cell(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    colour = mix(PINK, WHITE, 0.35 + 0.25 * d.noise(0.3)) + 0.015 * d.noise(0.05)[..., None]
    colour = mix(colour, RED, 0.25 * ramp(d.noise(0.25), 0, 1.5))
    nests = ramp(d.noise(0.16), rng.uniform(0.9, 1.8), 2.2) + d.dots(rng.integers(1, 12), rng.uniform(0.025, 0.07))
    colour = mix(colour, mix(BLUE_GREY * 0.9, BROWN, 0.5 * rng.random()), rng.uniform(0.2, 0.85) * nests)
    colour = mix(colour, RED, rng.uniform(0.5, 0.9) * d.tree(int(rng.integers(2, 7))))
    if rng.random() < 0.4:
        crust = d.dots(rng.integers(1, 5), rng.uniform(0.04, 0.11), 0.6)
        colour = mix(colour, mix(DARK_RED * 0.9, BROWN * 0.9, d.noise(0.1)), 0.9 * crust)
    if rng.random() < 0.35:
        colour = mix(colour, WHITE, 0.5 * d.vessels(8, 0.2, 0.02, 0.7, 0.7))
    cover = d.cover(rng.uniform(0.25, 0.5), 0.06, 0.25) * rng.uniform(0.6, 0.95)
    return colour, np.maximum(cover, 0.8 * ramp(nests, 0.2, 1.0) * ramp(d.rho, 1.0, 0.93))


def _keratosis_actinic(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    colour = mix(mix(PINK, RED, rng.uniform(0.1, 0.5)), LIGHT_BROWN, 0.35 + 0.35 * d.noise(0.35))
    holes = d.dots(rng.integers(50, 140), rng.uniform(0.014, 0.024), 0.97)
    colour = mix(colour, RED * 0.85, 0.6 * d.network(0.09) * (1 - holes))
    colour = mix(colour, mix(WHITE, KERATIN, 0.5), rng.uniform(0.25, 0.65) * holes)
    colour = mix(colour, BROWN, rng.uniform(0, 0.8) * ramp(d.noise(0.2), 0.8, 1.6))
    scale = ramp(d.noise(0.07) + 0.7 * d.noise(0.3), 1.6, 2.6)
    colour = mix(colour, WHITE, rng.uniform(0.2, 0.9) * scale)
    return colour, d.cover(rng.uniform(0.3, 0.6), 0.07, 0.3) * rng.uniform(0.6, 0.95)


def _keratosis_benign(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    dark = d.rng.beta(1.3, 2.6)
    base = mix(mix(YELLOW, LIGHT_BROWN, rng.random()), DARK_BROWN * 1.2, dark)
    colour = mix(base, base * 0.72, 0.4 + 0.35 * d.noise(0.15) + 0.2 * d.noise(0.05))
    ridges = d.network(rng.uniform(0.1, 0.16))
    colour = mix(colour, base * 0.55, rng.uniform(0.15, 0.6) * ridges)
    cysts = d.dots(rng.integers(2, 24), rng.uniform(0.015, 0.035))
    colour = mix(colour, mix(WHITE, YELLOW, 0.4), rng.uniform(0.3, 0.8) * cysts)
    colour = mix(colour, DARK_BROWN * 0.9, 0.8 * d.dots(rng.integers(2, 22), rng.uniform(0.015, 0.032)))
    return colour, d.cover(rng.uniform(0.04, 0.14), rng.uniform(0.02, 0.12), 0.09) * rng.uniform(0.7, 1)


def _dermatofibroma(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    ring = mix(mix(LIGHT_BROWN, PINK * 0.9, rng.random()), BROWN, 0.2 + 0.12 * d.noise(0.12))
    spokes = ramp(np.cos(d.theta * rng.integers(14, 26) + 2.0 * d.noise(0.25)), -0.4, 0.9)
    colour = mix(ring, BROWN, rng.uniform(0.35, 0.7) * np.maximum(d.network(0.07), spokes * ramp(d.rho, 0.3, 0.8)))
    scar = ramp(d.rho + 0.09 * d.noise(0.15), rng.uniform(0.4, 0.65), 0.12)
    colour = mix(colour, mix(WHITE, PINK, rng.uniform(0, 0.7)), rng.uniform(0.6, 0.95) * scar)
    if rng.random() < 0.5:
        colour = mix(colour, RED, 0.5 * d.dots(12, 0.025, 0.6))
    colour = mix(colour, WHITE, rng.uniform(0.1, 0.6) * d.vessels(9, 0.2, 0.03, 0.7, 0.45))
    return colour, d.cover(rng.uniform(0.45, 0.7), 0.07, 0.08) * rng.uniform(0.75, 0.95)


def _vascular(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    dark = d.rng.random()
    blood = mix(RED * 0.95, mix(DARK_RED, PURPLE, rng.random()), dark)
    stroma = mix(mix(PINK, np.array([0.78, 0.66, 0.74]), dark), blood, rng.uniform(0.2, 0.7))
    lacunae = ramp(d.noise(rng.uniform(0.14, 0.25)), -1.2, 0.5)
    colour = mix(stroma, blood, 0.9 * lacunae)
    colour = mix(colour, blood * 0.55, 0.7 * ramp(d.noise(0.22), 0.3, 1.5) * dark)
    if rng.random() < 0.25:
        colour = mix(colour, BLACK, 0.9 * ramp(d.noise(0.3) - d.rho, 0.2, 0.7))
    colour = mix(colour, WHITE, 0.35 * ramp(d.network(0.25), 0.6, 1.0) * rng.random())
    return colour, d.cover(rng.uniform(0.06, 0.16), 0.03, 0.15) * rng.uniform(0.88, 1)


def _squamous_cell(d: Draft, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    colour = mix(mix(RED, PINK, rng.uniform(0.3, 0.9)), LIGHT_BROWN, 0.25 + 0.25 * d.noise(0.3))
    curls = d.vessels(rng.integers(15, 40), 0.09, 0.4, 0.8, 0.98) * ramp(d.rho, 0.2, 0.6)
    colour = mix(colour, DARK_RED, 0.75 * np.maximum(curls, d.dots(30, 0.018)))
    mass = ramp(0.75 * d.noise(0.3) + 0.3 * d.noise(0.08) - 1.1 * d.rho, rng.uniform(-0.6, 0.1), 0.7)
    keratin = mix(KERATIN, WHITE, 0.5 + 0.4 * d.noise(0.06))
    colour = mix(colour, keratin, rng.uniform(0.6, 0.95) * mass)
    blood = ramp(d.noise(0.1) - 0.6 * d.rho, rng.uniform(0.8, 1.8), 2.2)
    colour = mix(colour, mix(DARK_RED, BROWN * 0.8, d.noise(0.1)), 0.9 * blood)
    colour = mix(colour, WHITE, 0.6 * ramp(d.noise(0.05) + d.noise(0.2), 1.6, 2.4))
    return colour, d.cover(rng.uniform(0.3, 0.6), 0.08, 0.22) * rng.uniform(0.7, 1)


# class -> (structures, irregularity of the outline, deviation of the elongation, radius in parts of the shorter side)
HABITS: dict[str, tuple[Callable[[Draft, Generator], tuple[np.ndarray, np.ndarray]], float, float, float]] = {
    "MEL": (_melanoma, 0.12, 0.30, 0.39),
    "NV": (_naevus, 0.05, 0.22, 0.28),
    "BCC": (_basal_cell, 0.10, 0.30, 0.35),
    "AK": (_keratosis_actinic, 0.12, 0.30, 0.46),
    "BKL": (_keratosis_benign, 0.08, 0.30, 0.32),
    "DF": (_dermatofibroma, 0.06, 0.15, 0.34),
    "VASC": (_vascular, 0.06, 0.20, 0.22),
    "SCC": (_squamous_cell, 0.10, 0.25, 0.42),
}


def draw(label: str, rng: Generator) -> Chart:
    """Return a lesion of class `label`."""
    structures, lobes, elongation, radius = HABITS[label]
    draft = Draft(rng, lobes * rng.uniform(0.5, 1.6), rng.normal(0, elongation))
    colour, cover = structures(draft, rng)
    grain = 1 + 0.05 * draft.noise(0.06) + 0.04 * draft.noise(0.3)
    colour = colour * grain[..., None] * np.exp(rng.normal(0, 0.07) + rng.normal(0, 0.03, 3))
    radius = float(np.clip(radius * np.exp(rng.normal(0, 0.3)), 0.08, 0.52))
    return Chart(np.clip(colour, 0.02, 1), cover, draft.rho, radius)
