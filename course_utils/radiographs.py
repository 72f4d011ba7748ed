"""Drawings that look like small chest radiographs, with or without a cloudy opacity in a lung.

**These are drawings, not patients.** They have the geometry, the greys and the statistical
traps of chest radiographs, and no more: nothing medical can be concluded from them, and a
network trained on them knows nothing about anybody's lungs. What they are for: every factor is
ours, so that imbalance, calibration, hospitals and shortcuts can be *measured*.

A picture is the shadow of a *body* (soft tissue, lungs full of air, ribs, spine, heart,
diaphragm), to which an *opacity* may be added, taken at a *hospital*, which decides exposure,
contrast, noise and how people stand. Bright is where few rays come through. A hospital may put a
*mark* into a corner, the letter P of a portable unit, as small bright tokens do on real films.

Independent random streams per picture (body, opacity, view and mark) keep comparisons clean: one
seed gives the same people healthy and ill, at every hospital, with and without the mark.

Lengths are in *frame units*: 1/64 of the side of the picture, that is one pixel at 64 x 64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from course_utils.surface.elements import FRAME, grid, noise, ramp, tight_box
from course_utils.surface.settings import REAL, check, common_rules, number

CLASSES = ("healthy", "pneumonia")
BLOCK = 20  # pictures among which the asked share of ill ones is met, as nearly as can be
_BODY, _OPACITY, _VIEW, _MARK, _ORDER = range(5)  # names of the random streams


@dataclass(frozen=True)
class Hospital:
    """How a hospital takes its pictures; ranges are drawn from anew for each picture."""

    exposure: tuple[float, float]  # added to the logarithm of the shadow
    contrast: tuple[float, float]  # factor of it
    grain: tuple[float, float]  # deviation of the noise, in grey values
    blur: float  # share of the four neighbours that each pixel takes in
    zoom: tuple[float, float]  # above 1: people fill more of the picture
    shift: float  # deviation of where people stand, in frame units
    tilt: float  # deviation of how people lean, in radians
    bed: float  # brightness added from the bottom to the top, as when people lie


HOSPITALS = {
    "A": Hospital((-0.02, 0.02), (0.95, 1.05), (4, 7), 0.06, (0.98, 1.08), 1.2, 0.02, 0.0),
    "B": Hospital((-0.14, -0.05), (0.70, 0.85), (7, 11), 0.10, (0.86, 0.98), 2.2, 0.06, 0.05),
    "C": Hospital((0.03, 0.10), (1.05, 1.25), (3, 6), 0.03, (1.04, 1.18), 1.8, 0.03, -0.03),
}

LETTER_P = np.array([[c == "#" for c in row] for row in
                     ("####.", "#...#", "#...#", "####.", "#....", "#....", "#....")])  # fmt: skip


@dataclass(frozen=True)
class RadiographSet:
    """Drawn radiographs and everything known about them; `n` pictures of `size` pixels.

    Attributes:
        images: ``uint8 [n, 3, size, size]``, grey in three equal channels.
        labels: ``int64 [n]``, index into ``CLASSES`` (0 is ``"healthy"``).
        boxes: ``float32 [n, 4]``, box of the opacity ``(x0, y0, x1, y1)`` in pixels, enclosing the
            mask tightly (``x1`` and ``y1`` are one past the last pixel); NaN where healthy.
        masks: ``bool [n, size, size]``, True on the opacity.
        marked: ``bool [n]``, True where the portable unit left its mark.
        mark_boxes: ``float32 [n, 4]``, box of the mark as in `boxes`; NaN where there is none.
        hospital: ``"A"``, ``"B"`` or ``"C"``, where all pictures of the set were taken.
    """

    CLASSES: ClassVar[tuple[str, ...]] = CLASSES

    images: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    masks: torch.Tensor
    marked: torch.Tensor
    mark_boxes: torch.Tensor
    hospital: str

    def __len__(self) -> int:
        return len(self.labels)


def _bump(value, centre, width):
    """A smooth hill of height 1."""
    return np.exp(-(((value - centre) / width) ** 2))


def _lungs(rng, x, y):
    """How much of each pixel is lung, 0 to 1, for the left and the right half [2, s, s].

    A lung lies between an inner and an outer wall, which both depend on the height, and above
    the dome of the diaphragm.
    """
    top, base = rng.uniform(7, 11), rng.uniform(45, 52)
    width = rng.uniform(14.5, 18)
    soft = rng.uniform(1.2, 2.2)
    sides = []
    for side in (-1, 1):
        out = side * (x - 32)  # distance from the middle, towards this side
        reach = np.clip((y - top) / (base - top), 0.001, 1.3)
        inner = rng.uniform(4.5, 6) + 2.5 * reach**2
        bow = (1 - (1 - np.minimum(reach, 1)) ** 2) ** 0.62
        outer = inner + width * rng.uniform(0.94, 1.04) * bow
        dome = base + (2.0 if side > 0 else 0.0) + 0.03 * (out - 0.55 * (inner + outer)) ** 2
        wall = np.minimum(np.minimum(out - inner, outer - out), np.minimum(dome - y, y - top))
        sides.append(ramp(wall, -soft, soft))
    return np.stack(sides)


def _bones(rng, x, y, lungs):
    """Ribs, spine, and collar bones [s, s]."""
    out = np.abs(x - 32)
    cage = ramp(y, 5, 10) * ramp(-y, -56, -48) * ramp(out, 3, 8) * ramp(-out, -30, -25)
    gap = rng.uniform(5.2, 6.6)
    behind = (y + rng.uniform(0.1, 0.3) * out - 0.016 * out**2) / gap + rng.random()
    before = (y - rng.uniform(0.5, 0.8) * out + 0.004 * out**2) / (1.25 * gap) + rng.random()
    ribs = 0.085 * ramp(np.cos(2 * np.pi * behind), 0.1, 0.95)
    ribs = ribs + 0.045 * ramp(np.cos(2 * np.pi * before), 0.3, 0.95) * ramp(out, 7, 12)
    discs = 0.03 * np.cos(2 * np.pi * (y / rng.uniform(4.3, 5.2) + rng.random()))
    spine = (0.13 + discs) * _bump(out, 0, 4.2)
    line = rng.uniform(7, 10) - 0.14 * out + 0.006 * out**2
    collar = 0.10 * _bump(y, line, 1.1) * ramp(out, 3, 6) * ramp(-out, -26, -20)
    return cage * ribs * (0.35 + 0.65 * lungs) + spine + collar


def _body(rng, size, x, y):
    """Shadow of somebody healthy [s, s], about 0 to 1, and the lungs [2, s, s]."""
    out = np.abs(x - 32)
    lungs = _lungs(rng, x, y)
    air = lungs.sum(0)
    half = rng.uniform(29, 34) + 0.03 * (y - 40)
    neck = rng.uniform(8, 12) + 3.4 * np.maximum(y - rng.uniform(0, 3), 0)  # neck and shoulders
    flesh = ramp(np.minimum(half, neck) - out, -1.5, 3.0)
    heart_x, heart_y = rng.uniform(35, 37.5), rng.uniform(38, 42)
    far = np.hypot((x - heart_x) / rng.uniform(8.5, 11.5), (y - heart_y) / rng.uniform(9, 12))
    shadow = 0.60 + 0.03 * noise(rng, size, 0.02, 3) + 0.0015 * (y - 32)
    shadow = shadow - rng.uniform(0.30, 0.38) * air
    shadow = shadow + _bones(rng, x, y, air)
    shadow = shadow + 0.10 * _bump(out, 0, rng.uniform(6, 8)) * ramp(-y, -50, -40)
    shadow = shadow + 0.20 * ramp(1.12 - far, -0.12, 0.22) * (0.35 + 0.65 * air)
    # vessels fan out from the middle of each lung; breasts veil both bases alike
    root = _bump(out, 8, 6) * _bump(y, rng.uniform(27, 31), 8)
    veins = noise(rng, size, 0.05, 1.6)
    shadow = shadow + air * (0.026 + 0.045 * root) * veins + 0.07 * root * rng.uniform(0.5, 1.5)
    veil = rng.uniform(0, 0.07) * _bump(out, 15, 8) * _bump(y, 40, 8)
    shadow = shadow + air * (veil + 0.017 * noise(rng, size, 0.03, 2.5))
    return shadow * flesh, lungs


def _opacity(rng, size, lungs, x, y):
    """A cloud in one lung, or two [s, s], and its mask; some are next to invisible."""
    cloud = np.zeros((size, size), np.float32)
    side = int(rng.integers(2))
    for _ in range(1 + int(rng.random() < 0.35)):
        inside = lungs[side] > 0.7
        rows, columns = np.nonzero(inside)
        place = int(rng.integers(len(rows)))
        cx, cy = x[0, columns[place]], y[rows[place], 0]
        wide, high = rng.uniform(5, 11), rng.uniform(5, 10)
        ragged = 1 + 0.28 * noise(rng, size, 0.06, 2.2)
        far = np.hypot((x - cx) / wide, (y - cy) / high) * np.maximum(ragged, 0.3)
        cloud = np.maximum(cloud, rng.uniform(0.6, 1.0) * np.exp(-(far**2.2)))
        side = side if rng.random() < 0.5 else 1 - side
    cloud = cloud * (1 + 0.15 * noise(rng, size, 0.08, 1.5)) * lungs.max(0)
    mask = cloud > 0.4 * cloud.max()
    strength = 0.17 + 0.45 * rng.random() ** 1.1
    return np.maximum(cloud, 0) * strength, mask


def _move(rng, at, size):
    """Coordinates of what each pixel shows: people stand, lean and fill the picture as they do."""
    x, y, _, _ = grid(size)
    zoom, lean = rng.uniform(*at.zoom), rng.normal(0, at.tilt)
    dx, dy = rng.normal(0, at.shift, 2)
    c, s = np.cos(lean) / zoom, np.sin(lean) / zoom
    u, v = x - 32 - dx, y - 32 - dy
    return (c * u + s * v + 32).astype(np.float32), (c * v - s * u + 32).astype(np.float32)


def _stamp(rng, size):
    """The mark of the portable unit: coverage [s, s], 0 to 1, in one of the upper corners."""
    x, y, _, _ = grid(size)
    scale = rng.uniform(0.95, 1.15)
    left = rng.choice((4.0, 55.0)) + rng.uniform(-1.5, 1.5)
    top = 4.0 + rng.uniform(-1.5, 1.5)
    column, row = (x - left) / scale, (y - top) / scale
    near = (column >= 0) & (column < 5) & (row >= 0) & (row < 7)
    cover = np.zeros((size, size), np.float32)
    cover[near] = LETTER_P[row[near].astype(int), column[near].astype(int)]
    return cover * rng.uniform(0.8, 1.0)


def _picture(seed, index, ill, at, marked, size):
    """One picture: grey uint8 [s, s], mask of the opacity, and the mark's coverage or None."""
    people, sick, view, token = (
        np.random.default_rng((seed, index, s)) for s in (_BODY, _OPACITY, _VIEW, _MARK)
    )
    x, y = _move(view, at, size)
    shadow, lungs = _body(people, size, x, y)
    mask = np.zeros((size, size), bool)
    if ill:
        cloud, mask = _opacity(sick, size, lungs, *grid(size)[:2])
        shadow = shadow + cloud
    height = grid(size)[1] / FRAME - 0.5
    shadow = view.uniform(*at.contrast) * (shadow - 0.5) + 0.52 + view.uniform(*at.exposure)
    shadow = shadow + at.bed * height
    around = np.pad(shadow, 1, mode="edge")
    four = around[2:, 1:-1] + around[:-2, 1:-1] + around[1:-1, 2:] + around[1:-1, :-2]
    shadow = (1 - 4 * at.blur) * shadow + at.blur * four
    stamp = None
    if token.random() < marked:
        stamp = _stamp(token, size)
        shadow = shadow + (0.97 - shadow) * stamp
    grain = view.uniform(*at.grain) * view.standard_normal((size, size), dtype=np.float32)
    grey = 255 * np.clip(shadow, 0, None) ** 0.9 + grain
    return np.clip(grey, 0, 255).round().astype(np.uint8), mask, stamp


def _labels(count, seed, positive):
    """Class of every picture: each block of twenty holds the asked share, in random order."""
    labels, before = [], 0
    for block in range(-(-count // BLOCK)):
        until = int(np.floor(BLOCK * (block + 1) * positive + 0.5))
        ill = np.arange(BLOCK) < until - before
        labels.append(np.random.default_rng((seed, block, _ORDER)).permutation(ill))
        before = until
    return np.concatenate(labels)[:count].astype(np.int64)


def generate_radiographs(
    count: int,
    seed: int = 0,
    positive: float = 0.5,
    hospital: str = "A",
    marked: Sequence[float] = (0.0, 0.0),
    size: int = 64,
) -> RadiographSet:
    """Draw pictures that look like chest radiographs; see the module on what they are not.

    Picture ``i`` depends on the seed, on ``i`` and on the settings only, so a longer set begins
    with the shorter one. For one seed, the same people are drawn whatever `positive`, `hospital`
    and `marked` say; train and test on different seeds.

    Args:
        count: Number of pictures, at least 1.
        seed: Non-negative seed of everything random.
        positive: Share of ill people, 0 to 1; met in every twenty pictures as nearly as can be.
        hospital: ``"A"`` (a good room for it), ``"B"`` (flat, dark, noisy, people lie and lean) or
            ``"C"`` (hard contrast, bright, close).
        marked: Probabilities that a healthy and an ill person's picture bears the mark of the
            portable unit. The rest of the picture is the same with and without it.
        size: Side of the pictures in pixels, 32 to 256.

    Returns:
        A `RadiographSet` of `count` pictures.

    Raises:
        ValueError: If an argument is outside the ranges above.
    """
    _check(count, seed, positive, hospital, marked, size)
    labels = _labels(count, seed, positive)
    images = np.empty((count, 1, size, size), np.uint8)
    masks = np.zeros((count, size, size), bool)
    boxes, mark_boxes = np.full((2, count, 4), np.nan, np.float32)
    for i, label in enumerate(labels):
        images[i, 0], masks[i], stamp = _picture(
            seed, i, bool(label), HOSPITALS[hospital], marked[label], size
        )
        boxes[i] = tight_box(masks[i])
        if stamp is not None:
            mark_boxes[i] = tight_box(stamp > 0)
    return RadiographSet(
        images=torch.from_numpy(images).repeat(1, 3, 1, 1),
        labels=torch.from_numpy(labels),
        boxes=torch.from_numpy(boxes),
        masks=torch.from_numpy(masks),
        marked=torch.from_numpy(~np.isnan(mark_boxes[:, 0])),
        mark_boxes=torch.from_numpy(mark_boxes),
        hospital=hospital,
    )


def _check(count, seed, positive, hospital, marked, size):
    is_pair = (
        isinstance(marked, Sequence)
        and len(marked) == 2
        and all(number(p, 0, 1, REAL) for p in marked)
    )
    known = isinstance(hospital, str) and hospital in HOSPITALS
    check((
        *common_rules(count, seed, size),
        ("positive", positive, number(positive, 0, 1, REAL), "a share from 0 to 1"),
        ("hospital", hospital, known, f"one of {tuple(HOSPITALS)}"),
        ("marked", marked, is_pair,
         "two probabilities from 0 to 1, of a healthy and of an ill person"),
    ))  # fmt: skip
