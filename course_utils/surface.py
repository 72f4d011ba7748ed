"""Surface inspection: photograph-like pictures of machined surfaces, with or without a defect.

Every picture is rendered from a seed when it is asked for, so the course needs no download and
every learner gets the same data. A picture starts as a *surface* (colour, relief and gloss of
brushed metal, cast iron, wood or tile), receives at most one kind of *defect* (a change of the
same three things), is lit by a *light* and seen by a *camera*. Because a defect is a change of
relief or colour and not a drawing on top, its shading follows the light: under the raking lamp
the same dent casts a shadow that the soft daylight never showed. This is what makes the lamp a
domain of its own, and it comes for free.

Three independent random streams per picture (scene, view and mark) keep comparisons clean: the
same ``seed`` gives the same scenes in ``"day"`` and in ``"lamp"``, and the same pictures with and
without the planted mark.

Lengths are in *frame units*: 1/64 of the side of the picture, that is one pixel at 64 x 64.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import scipy.fft
import torch
from scipy.ndimage import correlate1d

CLASSES = ("ok", "scratch", "crack", "dent", "stain", "hole")
MATERIALS = ("metal", "iron", "wood", "tile")
DOMAINS = ("day", "lamp")
# Share of each material within a class (rows CLASSES, columns MATERIALS): as in a workshop, glazed
# tile cracks and does not dent, cast iron has blowholes. Knowing the material alone gives 28 %.
MATERIAL_SHARES = (
    (0.25, 0.25, 0.25, 0.25),
    (0.40, 0.12, 0.24, 0.24),
    (0.08, 0.27, 0.25, 0.40),
    (0.52, 0.13, 0.25, 0.10),
    (0.20, 0.20, 0.35, 0.25),
    (0.17, 0.40, 0.28, 0.15),
)
MARK_ANYWHERE = "any"  # value of `spurious_class` for marks that ignore the class

_FRAME = 64.0
_SCENE, _VIEW, _MARK, _ORDER = range(4)  # names of the random streams


@dataclass(frozen=True)
class SurfaceSet:
    """Pictures of surfaces and everything known about them; `n` pictures of `size` pixels.

    Attributes:
        images: ``uint8 [n, 3, size, size]``, RGB.
        labels: ``int64 [n]``, index into ``CLASSES`` (0 is ``"ok"``).
        boxes: ``float32 [n, 4]``, the defect's ``(x0, y0, x1, y1)`` in pixels, enclosing the mask
            tightly (``x1`` and ``y1`` are one past the last pixel); NaN where there is no defect.
        masks: ``bool [n, size, size]``, True on the defect.
        materials: ``int64 [n]``, index into ``MATERIALS``.
        marked: ``bool [n]``, True where the inspection mark was planted.
        mark_boxes: ``float32 [n, 4]``, box of the mark as in `boxes`; NaN where there is none.
        domain: ``"day"`` or ``"lamp"``, the light of all pictures of the set.
    """

    CLASSES: ClassVar[tuple[str, ...]] = CLASSES
    MATERIALS: ClassVar[tuple[str, ...]] = MATERIALS

    images: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor
    materials: torch.Tensor
    marked: torch.Tensor
    mark_boxes: torch.Tensor
    domain: str

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class _Surface:
    """Colour ``[3, s, s]`` (linear light), relief ``[s, s]`` (frame units) and gloss."""

    albedo: np.ndarray
    height: np.ndarray
    gloss: np.ndarray  # [3, s, s] or [3, 1, 1], colour and strength of the reflection
    rough: tuple[float, float]  # spread of slopes that reflect, along and across the grain
    angle: float  # direction of the grain, radians
    rich: float = 1.0  # how busy the texture is: defects are drawn this much stronger
    ragged: float = 0.1  # how far a hole in this material is from round


@dataclass
class _Defect:
    """What a defect does to a surface: multiplies colour and gloss, adds relief."""

    mask: np.ndarray
    tint: np.ndarray | float = 1.0
    relief: np.ndarray | float = 0.0
    gloss: np.ndarray | float = 1.0


# ------------------------------------------------------------------------------ tools


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, ...]:
    """Pixel centres x, y [s, s] in frame units; frequencies fx, fy in cycles per frame."""
    axis = ((np.arange(size) + 0.5) * _FRAME / size).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    fy, fx = np.meshgrid(
        np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size), indexing="ij"
    )
    return x, y, fx.astype(np.float32), fy.astype(np.float32)


def _rotate(x, y, angle):
    """Coordinates along and across the direction `angle`."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def _noise(rng, size, corner, beta, angle=0.0, stretch=1.0):
    """Correlated noise [s, s] of mean 0 and deviation 1.

    Flat spectrum below `corner` cycles per frame, falling as frequency**-beta above it; features
    are `stretch` times longer along `angle`. Drawn in the frequency domain: one inverse FFT.
    """
    _, _, fx, fy = _grid(size)
    if stretch != 1.0:
        fx, fy = _rotate(fx, fy, angle)
        fx = fx * np.float32(stretch)
    power = fx * fx + fy * fy + np.float32(corner**2)
    white = rng.standard_normal((2, *power.shape), dtype=np.float32)
    spectrum = (white[0] + 1j * white[1]) * power ** np.float32(-beta / 2)
    spectrum[0, 0] = 0
    out = scipy.fft.irfft2(spectrum, s=(size, size))
    return out / (out.std() + np.float32(1e-9))


def _ramp(value, low, high):
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) * (1.0 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def _colour(rgb, jitter=None, spread=0.08):
    """Colour as [3, 1, 1]; with a generator as `jitter`, varied in brightness and in hue."""
    rgb = np.asarray(rgb, np.float32)
    if jitter is not None:
        rgb = rgb * np.exp(jitter.normal(0, 2 * spread) + jitter.normal(0, spread / 5, 3))
    return rgb.astype(np.float32)[:, None, None]


def _mix(a, b, amount):
    return a + (b - a) * amount


def _polyline(points, size):
    """Distance of every pixel to a polyline, and where along it (0 start, 1 end) the foot lies."""
    x, y, _, _ = _grid(size)
    p = points.astype(np.float32)
    step = np.diff(p, axis=0)
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-3)
    direction = step / length[:, None]
    dx = x.ravel() - p[:-1, :1]
    dy = y.ravel() - p[:-1, 1:]
    along = dx * direction[:, :1] + dy * direction[:, 1:]
    foot = np.clip(along, 0, length[:, None])
    beyond = along - foot
    square = (dy * direction[:, :1] - dx * direction[:, 1:]) ** 2 + beyond * beyond
    best = square.argmin(0)
    column = np.arange(best.size)
    start = np.concatenate(([0], np.cumsum(length)[:-1])).astype(np.float32)
    progress = (start[best] + foot[best, column]) / length.sum()
    return np.sqrt(square[best, column]).reshape(x.shape), progress.reshape(x.shape)


def _stroke(distance, width, size):
    """Antialiased coverage of a line of `width`; below a pixel it gets paler instead of thinner."""
    pixel = _FRAME / size
    return np.clip((width / 2 - distance) / pixel + 0.5, 0, 1) * np.minimum(width / pixel, 1)


def _angle_gap(a, b):
    """Smallest angle between two undirected lines, 0 to pi/2."""
    return abs((a - b + np.pi / 2) % np.pi - np.pi / 2)


# -------------------------------------------------------------------------- materials


def _metal(rng, size):
    """Brushed or turned metal: streaks that reflect, in straight lines or in wide arcs."""
    x, y, _, _ = _grid(size)
    angle = rng.uniform(0, np.pi)
    base = _colour(
        ((0.50, 0.51, 0.53), (0.62, 0.62, 0.62), (0.36, 0.37, 0.39), (0.60, 0.45, 0.22))[
            rng.choice(4, p=(0.4, 0.3, 0.18, 0.12))
        ],
        rng,
    )
    if rng.random() < 0.7:
        streak = _noise(rng, size, rng.uniform(8, 30), 0.9, angle, rng.uniform(25, 70))
        streak += 0.6 * _noise(rng, size, 25, 0.8, angle, rng.uniform(8, 18))
    else:  # turned on a lathe: the tool leaves grooves around a centre, often out of the picture
        away = rng.uniform(20, 160)
        cx, cy = 32 - away * np.sin(angle), 32 + away * np.cos(angle)
        radius = np.hypot(x - cx, y - cy)
        feed = np.cumsum(rng.normal(0, 1, 512) * (rng.random(512) < 0.7))
        profile = rng.normal(0, 1, 512) + 0.25 * (feed - feed.mean()) / (feed.std() + 1e-6)
        streak = np.interp(radius * rng.uniform(0.8, 1.6), np.arange(512), profile)
        streak = (streak + 0.5 * _noise(rng, size, 12, 0.8)).astype(np.float32)
    patina = _noise(rng, size, 1.5, 3.5)
    albedo = base * (0.75 + rng.uniform(0.03, 0.075) * streak + 0.03 * patina)
    height = rng.uniform(0.02, 0.06) * streak + rng.uniform(0, 0.5) * patina
    gloss = base * rng.uniform(0.5, 1.4) * np.maximum(1 + rng.uniform(0.1, 0.25) * streak, 0.2)
    return _Surface(albedo * 0.75, height, gloss, (0.1, 0.4), angle, 1.1, 0.05)


def _iron(rng, size):
    """Sand-cast iron: dull, dark, grainy, pitted, with a breath of rust; sometimes painted."""
    grain = _noise(rng, size, rng.uniform(6, 13), rng.uniform(2.4, 3.2))
    fine = _noise(rng, size, 30, 1.0)
    pits = _ramp(_noise(rng, size, rng.uniform(10, 18), 2.4), 1.5, 2.6)
    blotch = _noise(rng, size, 2.5, 2.0)
    painted = rng.random() < 0.2
    paints = ((0.11, 0.15, 0.13), (0.22, 0.24, 0.25), (0.12, 0.14, 0.17), (0.24, 0.23, 0.20))
    iron = ((0.11, 0.11, 0.112), (0.15, 0.147, 0.144), (0.09, 0.092, 0.096), (0.13, 0.12, 0.11))
    base = _colour((paints if painted else iron)[rng.integers(4)], rng, 0.1)
    rust = _colour((1.25, 0.95, 0.75)) ** (0.5 * rng.random())
    tone = 1 + 0.05 * grain + 0.05 * fine - 0.45 * pits
    albedo = base * np.maximum(tone, 0.2) * _mix(1, rust, _ramp(blotch, -0.5, 2.5))
    height = rng.uniform(0.08, 0.28) * grain + 0.05 * fine - 0.8 * pits + 0.3 * blotch
    gloss = _colour((0.10, 0.10, 0.10)) * rng.uniform(0.3, 1.8) * (1 - 0.8 * pits)
    return _Surface(albedo, height, gloss, (0.2, 0.2), 0.0, 1.5, 0.22)


def _wood(rng, size):
    """Sawn wood: year rings cut at a slant, fibres, pores, and often a sound knot."""
    x, y, _, _ = _grid(size)
    angle = rng.uniform(0, np.pi)
    along, across = _rotate(x - 32, y - 32, angle)
    across = across + rng.uniform(0.5, 2.2) * _noise(rng, size, 2, 2.6, angle, 3.0)
    knot = np.float32(0)
    if rng.random() < 0.35:  # the grain flows around a knot as water around a pile
        radius = rng.uniform(2.5, 6.5)
        ka, kc = along - rng.uniform(-26, 26), across - rng.uniform(-26, 26)
        square = (ka / rng.uniform(1.1, 1.7)) ** 2 + kc * kc + 0.3
        across = across - kc * np.minimum(radius**2 / square, 1) * 0.95
        distance = np.sqrt(square)
        knot = _ramp(distance, radius * 1.25, radius * 0.7)
        core = 0.5 + 0.5 * np.sin(distance * rng.uniform(1.6, 2.6) + rng.uniform(0, 6))
    pith = rng.uniform(-70, 70)
    ring = np.hypot(along * rng.uniform(0.02, 0.22), across - pith) / rng.uniform(3.0, 9.0)
    ring = ring + 0.35 * np.sin(ring * rng.uniform(0.5, 1.2) + rng.uniform(0, 6))
    phase = ring - np.floor(ring)
    late = phase * phase * (1 - _ramp(phase, 0.8, 1.0))  # slow darkening, then an abrupt edge
    fibre = _noise(rng, size, rng.uniform(14, 28), 0.9, angle, rng.uniform(12, 30))
    pores = _ramp(_noise(rng, size, 26, 1.2, angle, rng.uniform(6, 12)), 1.2, 2.6)
    pale, dark = (
        ((0.58, 0.40, 0.22), (0.38, 0.20, 0.085)),
        ((0.42, 0.27, 0.14), (0.25, 0.14, 0.065)),
        ((0.20, 0.115, 0.065), (0.11, 0.06, 0.035)),
        ((0.62, 0.49, 0.33), (0.50, 0.35, 0.20)),
        ((0.44, 0.23, 0.12), (0.28, 0.12, 0.06)),
        ((0.33, 0.30, 0.26), (0.20, 0.18, 0.155)),
    )[rng.integers(6)]
    pale, dark = _colour(pale, rng), _colour(dark, rng, 0.04)
    albedo = _mix(pale, dark, late * rng.uniform(0.6, 1.4))
    albedo = albedo * (1 + 0.07 * fibre - rng.uniform(0, 0.4) * pores)
    height = 0.04 * fibre - 0.2 * pores + 0.1 * late
    if np.ndim(knot):
        albedo = _mix(albedo, dark * (0.55 + 0.35 * core + 0.05 * fibre), knot * 0.85)
    gloss = _colour((0.07, 0.065, 0.06)) * rng.uniform(0.2, 1.5)
    return _Surface(albedo, height, gloss, (0.2, 0.35), angle, 1.1, 0.15)


def _tile(rng, size):
    """Glazed, speckled, granite, marble or fired tile, sometimes with a joint."""
    angle = rng.uniform(0, np.pi)
    style = rng.integers(5)
    blotch, fine = _noise(rng, size, 2.5, 1.8), _noise(rng, size, 30, 1.0)
    bases = (
        (0.66, 0.65, 0.62), (0.62, 0.56, 0.45), (0.30, 0.38, 0.42), (0.36, 0.42, 0.36),
        (0.45, 0.45, 0.46), (0.22, 0.25, 0.30),
    )  # fmt: skip
    base = _colour(bases[rng.integers(6)], rng, 0.1)
    tone, gloss = 1 + 0.035 * blotch + 0.012 * fine, rng.uniform(0.1, 0.5)
    ripple = _noise(rng, size, rng.uniform(2, 5), 3.6)  # glaze flows: only smooth waves
    relief = rng.uniform(0.1, 0.45) * ripple
    if style == 1:  # speckled glaze
        spots = _noise(rng, size, rng.uniform(14, 24), 2.6)
        tone = tone - rng.uniform(0.2, 0.5) * _ramp(spots, 1.4, 2.2)
        tone = tone + rng.uniform(0, 0.2) * _ramp(-spots, 1.5, 2.3)
    elif style == 2:  # granite: grains of three minerals
        crystals = _noise(rng, size, rng.uniform(9, 16), 2.2)
        mica = _ramp(_noise(rng, size, rng.uniform(12, 18), 2.4), 0.8, 1.2)
        tone = tone * (1 + 0.16 * np.tanh(3 * crystals) + 0.05 * fine) - 0.4 * mica
        relief, gloss = 0.3 * relief + 0.02 * fine, gloss * 0.7
    elif style == 3:  # marble: soft veins, where a warped noise crosses zero
        vein = np.abs(_noise(rng, size, 2.0, 2.5, angle, 2.5)) + 0.04 * np.abs(fine)
        vein = np.exp(-vein / rng.uniform(0.08, 0.25)) * _ramp(blotch, -1.0, 1.0)
        tone = tone * (1 - rng.uniform(0.15, 0.45) * vein)
    elif style == 4:  # fired clay: matt, grainy, warm
        base = _colour((0.36, 0.20, 0.13), rng, 0.12)
        grain = _noise(rng, size, 18, 1.6)
        tone, relief = tone + 0.06 * grain + 0.03 * blotch, relief + 0.1 * grain
        gloss *= 0.12
    albedo = base * np.maximum(tone, 0.1)
    if rng.random() < 0.45:
        albedo, relief = _joint(rng, albedo, relief, fine, angle)
    return _Surface(
        albedo,
        relief,
        _colour((1, 1, 1)) * gloss,
        (0.09, 0.09),
        angle,
        1.2 if style in (2, 3) else 1.1,
        0.12,
    )


def _joint(rng, albedo, relief, fine, angle):
    """One or two straight grout lines; the tile beyond has a tone of its own."""
    size = relief.shape[0]
    x, y, _, _ = _grid(size)
    grout = _colour((0.42, 0.41, 0.38), rng, 0.2) * (1 + 0.08 * fine)
    for turn in (0, np.pi / 2)[: rng.choice((1, 2), p=(0.65, 0.35))]:
        _, across = _rotate(x - 32, y - 32, angle + turn)
        across = across - rng.uniform(-28, 28) + 0.1 * fine
        half = rng.uniform(0.7, 1.9)
        albedo = albedo * (1 + rng.normal(0, 0.05) * (across > 0))
        cover = np.clip(half - np.abs(across) + 0.5, 0, 1)
        relief = _mix(relief, 0.05 * fine, cover) - 0.9 * _ramp(np.abs(across), half + 1.5, half)
        albedo = _mix(albedo, grout, cover)
    return albedo, relief


# ---------------------------------------------------------------------------- defects


def _scratch(rng, surface, power):
    """One to three thin, gently curved grooves; never along the grain, which has lines anyway."""
    size = surface.height.shape[0]
    angle = rng.uniform(0, np.pi)
    if _angle_gap(angle, surface.angle) < 0.4:
        angle = surface.angle + rng.uniform(0.4, np.pi - 0.4)
    bright = rng.random() < 0.6
    mask = np.zeros((size, size), bool)
    tint, relief = np.ones((), np.float32), np.zeros((), np.float32)
    centre = rng.uniform(16, 48, 2)
    for _ in range(rng.choice((1, 2, 3), p=(0.65, 0.25, 0.1))):
        t = np.linspace(-0.5, 0.5, 10)[:, None]
        way = np.array((np.cos(angle), np.sin(angle)))
        side = np.array((-way[1], way[0]))
        length, bow = rng.uniform(18, 56), rng.normal(0, 0.14)
        points = centre + length * (way * t + side * bow * (4 * t * t - 0.5))
        points = points + side * 0.06 * length * rng.normal() * np.sin(5 * t)
        distance, progress = _polyline(points, size)
        pressure = np.minimum(6 * np.minimum(progress, 1 - progress) + 0.25, 1)
        width = rng.uniform(0.9, 1.8) * pressure
        line = _stroke(distance, width, size)
        edge = _stroke(distance, width + 1.6, size) - line
        tint = tint * (1 + min(power, 1.2) * ((0.85 if bright else -0.55) * line - 0.22 * edge))
        relief = relief - power * 0.7 * np.exp(-((distance / 0.9) ** 2)) * pressure
        mask |= distance < np.maximum(width, 1.2) / 2 + 0.3
        centre, angle = centre + rng.normal(0, 6, 2), angle + rng.normal(0, 0.12)
    return _Defect(mask, tint, relief)


def _crack(rng, surface, power):
    """A jagged dark line that wanders, thins out and branches."""
    size = surface.height.shape[0]
    dark, mask = np.zeros((size, size), np.float32), np.zeros((size, size), bool)
    heading = rng.uniform(0, 2 * np.pi)
    pace = rng.uniform(2.0, 4.2)
    start = rng.uniform(18, 46, 2) - 4.5 * pace * np.array((np.cos(heading), np.sin(heading)))
    todo = [(start, heading, rng.integers(8, 15), rng.uniform(1.1, 2.1))]
    branches = rng.integers(0, 4)
    while todo:
        start, heading, steps, wide = todo.pop()
        turn = heading + rng.normal(0, 0.62, steps) + 0.25 * np.cumsum(rng.normal(0, 0.5, steps))
        stride = pace * rng.uniform(0.4, 1.5, steps)[:, None]
        walk = start + np.cumsum(stride * np.stack((np.cos(turn), np.sin(turn)), 1), 0)
        points = np.concatenate((start[None], walk))
        distance, progress = _polyline(points, size)
        width = wide * (1.05 - 0.85 * progress)
        dark = np.maximum(dark, _stroke(distance, width, size))
        mask |= distance < np.maximum(width, 1.0) / 2 + 0.3
        for _ in range(branches):
            at = rng.integers(1, steps)
            fork = turn[at] + rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
            todo.append((points[at], fork, rng.integers(3, 6), wide * rng.uniform(0.5, 0.8)))
        branches = 0
    return _Defect(mask, 1 - min(0.85 * power, 0.9) * dark, -0.8 * power * dark, 1 - 0.8 * dark)


def _dent(rng, surface, power):
    """A shallow bowl with a soft shoulder: relief only, its shading comes from the light."""
    size = surface.height.shape[0]
    x, y, _, _ = _grid(size)
    radius = rng.uniform(5.5, 13.5)
    u, v = _rotate(x - rng.uniform(12, 52), y - rng.uniform(12, 52), rng.uniform(0, np.pi))
    r = np.hypot(u, v * rng.uniform(1.0, 1.45)) / radius
    bowl = np.where(r < 1, (1 - r * r) ** 2, 0)
    shoulder = np.exp(-(((r - 1.1) / 0.22) ** 2))
    depth = power * radius * rng.uniform(0.33, 0.5)
    return _Defect(r < 0.95, 1 - 0.12 * power * bowl, depth * (0.15 * shoulder - bowl))


def _stain(rng, surface, power):
    """An irregular patch of rust, oil or water: colour and gloss, no relief."""
    size = surface.height.shape[0]
    x, y, _, _ = _grid(size)
    u, v = _rotate(x - rng.uniform(14, 50), y - rng.uniform(14, 50), rng.uniform(0, np.pi))
    warp = rng.uniform(0.15, 0.35) * _noise(rng, size, rng.uniform(2, 5), 2.9)
    r = np.hypot(u, v * rng.uniform(1.0, 2.0)) / rng.uniform(6, 15) + warp
    inside = _ramp(r, 1.0 + rng.uniform(0.04, 0.5), 0.8)
    rim = np.exp(-(((r - 0.93) / 0.09) ** 2)) * rng.uniform(0, 0.5)  # liquids dry from the edge
    colour, shine = (
        ((0.70, 0.43, 0.26), 0.3), ((0.52, 0.45, 0.36), 1.8), ((0.58, 0.56, 0.52), 0.5),
        ((0.50, 0.36, 0.26), 0.6),
    )[rng.integers(4)]  # fmt: skip
    amount = np.minimum(1.3 * power * (inside * (0.75 + 0.3 * warp) + rim), 1.25)
    tint = _colour(colour, rng, 0.05) ** amount
    return _Defect(inside > 0.4, tint, 0.0, 1 + (shine - 1) * np.minimum(amount, 1))


def _hole(rng, surface, power):
    """Drill holes, blowholes and knot-holes: a dark pit, its wall lit on the far side, a rim."""
    size = surface.height.shape[0]
    x, y, _, _ = _grid(size)
    warp = rng.uniform(0, 2 * surface.ragged) * _noise(rng, size, 5, 3.0)
    mask = np.zeros((size, size), bool)
    pit, floor, rim = np.zeros((3, size, size), np.float32)
    centre, radius = rng.uniform(10, 54, 2), rng.uniform(1.8, 6.5) * min(1, 0.4 + 0.7 * power)
    first, turn, flat = radius, rng.uniform(0, np.pi), rng.uniform(1.0, 1.4)
    for _ in range(rng.choice((1, 2, 3), p=(0.8, 0.13, 0.07))):
        u, v = _rotate(x - centre[0], y - centre[1], turn)
        r = np.hypot(u, v * flat) + warp * radius
        pit = np.maximum(pit, _ramp(r, radius + 0.5, radius - 0.5))
        floor = np.maximum(floor, _ramp(r, radius * 0.95, radius * 0.35))
        rim = np.maximum(rim, np.exp(-(((r - radius - 0.9) / 0.8) ** 2)))
        mask |= r < radius + 0.5
        centre = np.clip(centre + rng.normal(0, 3 + 1.5 * radius, 2), 6, 58)
        radius = max(1.2, radius * rng.uniform(0.5, 0.9))
    deep = min(0.95, 0.4 + 0.55 * power)
    tint = 1 - deep * pit * (0.65 + 0.35 * floor)
    tint = tint * (1 + rng.choice((-0.3, 0.15)) * power * rim * (1 - pit))
    relief = power * (0.2 * rim - 0.8 * pit - 0.5 * first * floor)
    return _Defect(mask, tint, relief, 1 - 0.9 * pit)


_TEXTURES = (_metal, _iron, _wood, _tile)
_DEFECTS = (_scratch, _crack, _dent, _stain, _hole)  # classes 1 to 5; 0 is "ok"


# ------------------------------------------------------------------- light and camera


@dataclass(frozen=True)
class _Light:
    """One way of lighting and photographing; ranges are drawn uniformly for each picture."""

    ambient: tuple[float, float, float]  # light from everywhere
    key: tuple[float, float, float]  # light from the lamp or the window
    slant: tuple[float, float]  # cotangent of the elevation: 0 overhead, 3 raking
    spread: float  # size of the source, as slopes that still mirror it
    falloff: tuple[float, float]  # how strongly the key fades across the picture
    vignette: tuple[float, float]
    noise: tuple[float, float]
    shadow: float  # darkness of cast shadows and of the edge of a passing shadow


_LIGHTS = {
    "day": _Light(
        (0.40, 0.42, 0.45), (0.62, 0.61, 0.58), (0.5, 1.1), 0.15,
        (0.0, 0.5), (0.0, 0.3), (0.005, 0.014), 0.4,
    ),
    "lamp": _Light(
        (0.16, 0.15, 0.16), (1.25, 1.00, 0.69), (1.5, 2.8), 0.08,
        (0.5, 1.4), (0.2, 0.65), (0.012, 0.028), 0.7,
    ),
}  # fmt: skip


def _slopes(height):
    """Slope of the relief along x and y (central differences, flat at the border)."""
    scale = height.shape[0] / (2 * _FRAME)
    sx, sy = np.zeros_like(height), np.zeros_like(height)
    sx[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * scale
    sy[1:-1] = (height[2:] - height[:-2]) * scale
    return sx, sy


def _cast_shadow(height, toward, slant):
    """How much of the key is hidden [s, s] by higher relief on the way to the light."""
    size = height.shape[0]
    reach, pixel = 5, size / _FRAME
    pad = int(np.ceil(reach * pixel)) + 1
    tall = np.pad(height, pad, mode="edge")
    hidden = np.zeros_like(height)
    for step in range(1, reach + 1):
        dx, dy = (round(float(step * pixel * c)) + pad for c in toward)
        above = tall[dy : dy + size, dx : dx + size] - height - np.float32(step / slant)
        np.maximum(hidden, above, out=hidden)
    return np.minimum(hidden * 2.5, 1)


def _distractors(rng, size, light):
    """Innocent light and shade [s, s]: edge of a passing shadow, and a list of dust specks."""
    x, y, _, _ = _grid(size)
    key = np.float32(1)
    if rng.random() < 0.3:
        across = _rotate(x - 32, y - 32, rng.uniform(0, np.pi))[1] - rng.uniform(-26, 26)
        soft = rng.uniform(1.5, 9)
        shade = _ramp(across, -soft, soft)
        if rng.random() < 0.4:  # a bar (cable, window frame) instead of a half plane
            shade = shade * _ramp(across, rng.uniform(8, 20) + 2 * soft, rng.uniform(6, 8))
        key = 1 - light.shadow * rng.uniform(0.4, 1.0) * shade
    dust = np.float32(0)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 6)):
            cx, cy = rng.uniform(0, 64, 2)
            spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(0.3, 1.0))
            dust = dust + spot * rng.choice((-0.6, 0.3)) * rng.uniform(0.3, 1)
    return key, dust


def _lit(rng, surface, light):
    """Linear RGB picture [3, s, s] of a surface: diffuse light, cast shadow and reflection."""
    height = surface.height
    size = height.shape[0]
    x, y, _, _ = _grid(size)
    azimuth, slant = rng.uniform(0, 2 * np.pi), rng.uniform(*light.slant)
    toward = np.array((np.cos(azimuth), np.sin(azimuth)), np.float32)  # in the picture
    shade, dust = _distractors(rng, size, light)
    sx, sy = _slopes(height)
    facing = np.clip(1 - slant * (sx * toward[0] + sy * toward[1]), 0, 2.5)
    toward_x = (x - 32) * toward[0] / 64 + (y - 32) * toward[1] / 64
    fade = 1 / (1 + rng.uniform(*light.falloff) * (0.5 - toward_x)) ** 2
    hidden = _cast_shadow(height, toward, slant)
    key = (shade * fade * (1 - light.shadow * hidden)).astype(np.float32)
    # Reflection: a pixel shines when its slope mirrors the source into the camera. The slope it
    # takes changes across the picture, which is what turns it into a highlight with a place.
    tilt = slant / (np.sqrt(1 + slant**2) + 1) * rng.uniform(0.1, 0.9)
    bend = rng.uniform(0.2, 0.9) / 64
    mx = -sx - toward[0] * tilt + (x - 32) * bend
    my = -sy - toward[1] * tilt + (y - 32) * bend
    along, across = _rotate(mx, my, surface.angle)
    width = [1 / (r * r + light.spread**2) for r in surface.rough]
    lobe = np.exp(-0.5 * (along * along * width[0] + across * across * width[1]))
    colour = [np.asarray(c, np.float32)[:, None, None] for c in (light.ambient, light.key)]
    body = surface.albedo * (1 + dust) * (colour[0] * (0.4 + 0.6 * fade) + colour[1] * key * facing)
    return body + surface.gloss * (colour[1] * (key * lobe) + 0.25 * colour[0])


def _photograph(rng, linear, light, exposure):
    """Camera: exposure, vignette, white balance, soft lens, sensor noise, gamma, 8 bits."""
    size = linear.shape[-1]
    x, y, _, _ = _grid(size)
    cx, cy = rng.uniform(24, 40, 2)
    square = ((x - cx) ** 2 + (y - cy) ** 2) * np.float32(1 / 2048)
    vignette = 1 - rng.uniform(*light.vignette) * square
    gain = exposure * np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.025, 3))
    seen = linear * (vignette * gain.astype(np.float32)[:, None, None])
    soft = rng.uniform(0.04, 0.17)
    for axis in (1, 2):  # three taps along each axis are enough for half a pixel of blur
        seen = correlate1d(seen, (soft, 1 - 2 * soft, soft), axis, mode="nearest")
    grain = rng.standard_normal((4, size, size), dtype=np.float32)
    level = np.float32(rng.uniform(*light.noise))
    # gamma 2 instead of 2.2: a square root is many times faster than a power and looks the same
    picture = np.sqrt(np.clip(seen, 0, 1))
    picture = _mix(picture, picture * picture * (3 - 2 * picture), 0.6)  # a camera's tone curve
    picture = picture + level * (0.8 * grain[3] + 0.5 * grain[:3])
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


# ------------------------------------------------------------------- mark and picture


def _box(mask):
    """Tight box (x0, y0, x1, y1) in pixels around a mask; NaN for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return np.full(4, np.nan, np.float32)
    return np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), np.float32)


def _mark(rng, albedo, mask):
    """Draw a small tick of blue chalk near the border, off the defect where there is room."""
    size = mask.shape[0]
    spots = rng.uniform(5, 59, (16, 2))
    side = rng.permutation(16) % 4
    spots[np.arange(16), side // 2] = np.where(side % 2, 58.5, 5.5) + rng.uniform(-1, 1, 16)
    defect = _box(mask) * _FRAME / size
    gap = np.maximum(spots - 4 - defect[2:], defect[:2] - spots - 4).max(1)
    # the first place that is clear of the defect's box; failing that, the one closest to clear
    centre = spots[np.argmax(np.where(gap > 0.5, 99.0, gap)) if mask.any() else 0]
    tick = np.array(((-2.4, -0.2), (-0.8, 1.8), (2.4, -2.0))) * rng.uniform(0.85, 1.1)
    turn = rng.normal(0, 0.25)
    points = np.stack(_rotate(tick[:, 0], tick[:, 1], turn), 1) + centre
    distance, _ = _polyline(points, size)
    cover = _stroke(distance, rng.uniform(1.3, 1.8), size) * rng.uniform(0.55, 0.8)
    return _mix(albedo, _colour((0.10, 0.24, 0.62), rng, 0.04), cover), distance < 1.5


def _picture(seed, index, label, domain, spurious, wants_mark, size, difficulty):
    """One picture: uint8 [3, s, s], mask [s, s], material, and the mask of the mark or None."""
    scene, view, chalk = (np.random.default_rng((seed, index, s)) for s in (_SCENE, _VIEW, _MARK))
    material = int(scene.choice(len(MATERIALS), p=MATERIAL_SHARES[label]))
    surface = _TEXTURES[material](scene, size)
    light = _LIGHTS[domain]
    # the camera half-corrects for dark materials; measured before the defect, so no giveaway
    exposure = (0.33 / (float(surface.albedo.mean()) + 0.03)) ** 0.45
    mask = np.zeros((size, size), bool)
    albedo, height, gloss = surface.albedo, surface.height, surface.gloss
    if label:
        weakest = 1 - 0.9 * difficulty
        power = surface.rich * scene.uniform(weakest, 1.0 + 0.2 * (1 - difficulty))
        while mask.sum() < 10 * (size / _FRAME) ** 2:  # an unlucky defect may miss the picture
            defect = _DEFECTS[label - 1](scene, surface, power)
            mask = defect.mask
        albedo = albedo * defect.tint
        height, gloss = height + defect.relief, gloss * defect.gloss
    chalked = None
    if wants_mark and chalk.random() < spurious:
        albedo, chalked = _mark(chalk, albedo, mask)
    surface = _Surface(
        albedo.astype(np.float32), np.asarray(height, np.float32), np.asarray(gloss, np.float32),
        surface.rough, surface.angle,
    )  # fmt: skip
    image = _photograph(view, _lit(view, surface, light), light, exposure)
    return image, mask, material, chalked


def _labels(count, seed):
    """Class of every picture: each run of six holds every class once, in random order."""
    blocks = -(-count // len(CLASSES))
    order = [
        np.random.default_rng((seed, b, _ORDER)).permutation(len(CLASSES)) for b in range(blocks)
    ]
    return np.concatenate(order)[:count]


def generate_surfaces(
    count: int,
    seed: int = 0,
    domain: str = "day",
    spurious: float = 0.0,
    spurious_class: str = "scratch",
    size: int = 64,
    difficulty: float = 0.5,
) -> SurfaceSet:
    """Render pictures of surfaces with or without a defect.

    Picture ``i`` depends on the seed, on ``i`` and on the settings only, so a longer set begins
    with the shorter one. Classes are balanced: any six pictures from a multiple of six on hold
    each class once. The two domains show the same scenes for the same seed; train and test on
    different seeds.

    Args:
        count: Number of pictures, at least 1.
        seed: Non-negative seed of everything random.
        domain: ``"day"`` (diffuse, neutral) or ``"lamp"`` (warm, raking, noisy).
        spurious: Probability, 0 to 1, that a picture of `spurious_class` carries a small blue
            chalk tick near its border; other classes never do. The rest of the picture is the
            same with and without it.
        spurious_class: A name of ``CLASSES``, or ``"any"`` to plant the mark whatever the class
            (the unbiased test of a model that was trained on a biased set).
        size: Side of the pictures in pixels, 32 to 256.
        difficulty: 0 (all defects plain) to 1 (some next to invisible).

    Returns:
        A `SurfaceSet` of `count` pictures.

    Raises:
        ValueError: If an argument is outside the ranges above.
    """
    _check(count, seed, domain, spurious, spurious_class, size, difficulty)
    labels = _labels(count, seed)
    images = np.empty((count, 3, size, size), np.uint8)
    masks = np.zeros((count, size, size), bool)
    materials = np.empty(count, np.int64)
    boxes, mark_boxes = np.full((2, count, 4), np.nan, np.float32)
    for i, label in enumerate(labels):
        chosen = spurious_class in (MARK_ANYWHERE, CLASSES[label])
        images[i], masks[i], materials[i], chalked = _picture(
            seed, i, int(label), domain, spurious, chosen, size, difficulty
        )
        boxes[i] = _box(masks[i])
        if chalked is not None:
            mark_boxes[i] = _box(chalked)
    return SurfaceSet(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels.astype(np.int64)),
        boxes=torch.from_numpy(boxes),
        masks=torch.from_numpy(masks),
        materials=torch.from_numpy(materials),
        marked=torch.from_numpy(~np.isnan(mark_boxes[:, 0])),
        mark_boxes=torch.from_numpy(mark_boxes),
        domain=domain,
    )


def _check(count, seed, domain, spurious, spurious_class, size, difficulty):
    """Raise a ValueError that names the value, what is allowed and what to do."""

    def number(value, low, high, kind):
        return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high

    whole, real, names = (int, np.integer), (int, float, np.number), (*CLASSES, MARK_ANYWHERE)
    rules = (
        ("count", count, number(count, 1, np.inf, whole), "a whole number of at least 1"),
        ("seed", seed, number(seed, 0, np.inf, whole), "a whole number of at least 0"),
        ("domain", domain, domain in DOMAINS, f"one of {DOMAINS}"),
        ("spurious", spurious, number(spurious, 0, 1, real), "a probability from 0 to 1"),
        ("spurious_class", spurious_class, spurious_class in names, f"one of {names}"),
        ("size", size, number(size, 32, 256, whole), "a whole number of pixels from 32 to 256"),
        ("difficulty", difficulty, number(difficulty, 0, 1, real), "a number from 0 to 1"),
    )
    for name, value, fine, allowed in rules:
        if not fine:
            raise ValueError(
                f"{name}={value!r} is not allowed: it must be {allowed}. Change {name}."
            )
