"""The five defects: each changes colour, relief and gloss of a surface, and knows its mask."""

from dataclasses import dataclass

import numpy as np

from course_utils.surface.elements import (
    angle_gap,
    colour,
    grid,
    noise,
    polyline,
    ramp,
    rotate,
    stroke,
)


@dataclass
class Defect:
    """What a defect does to a surface: multiplies colour and gloss, adds relief."""

    mask: np.ndarray
    tint: np.ndarray | float = 1.0
    relief: np.ndarray | float = 0.0
    gloss: np.ndarray | float = 1.0


def scratch(rng, surface, power):
    """One to three thin, gently curved grooves; never along the grain, which has lines anyway."""
    size = surface.height.shape[0]
    angle = rng.uniform(0, np.pi)
    if angle_gap(angle, surface.angle) < 0.4:
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
        distance, progress = polyline(points, size)
        pressure = np.minimum(6 * np.minimum(progress, 1 - progress) + 0.25, 1)
        width = rng.uniform(0.9, 1.8) * pressure
        line = stroke(distance, width, size)
        edge = stroke(distance, width + 1.6, size) - line
        tint = tint * (1 + min(power, 1.2) * ((0.85 if bright else -0.55) * line - 0.22 * edge))
        relief = relief - power * 0.7 * np.exp(-((distance / 0.9) ** 2)) * pressure
        mask |= distance < np.maximum(width, 1.2) / 2 + 0.3
        centre, angle = centre + rng.normal(0, 6, 2), angle + rng.normal(0, 0.12)
    return Defect(mask, tint, relief)


def crack(rng, surface, power):
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
        distance, progress = polyline(points, size)
        width = wide * (1.05 - 0.85 * progress)
        dark = np.maximum(dark, stroke(distance, width, size))
        mask |= distance < np.maximum(width, 1.0) / 2 + 0.3
        for _ in range(branches):
            at = rng.integers(1, steps)
            fork = turn[at] + rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
            todo.append((points[at], fork, rng.integers(3, 6), wide * rng.uniform(0.5, 0.8)))
        branches = 0
    return Defect(mask, 1 - min(0.85 * power, 0.9) * dark, -0.8 * power * dark, 1 - 0.8 * dark)


def dent(rng, surface, power):
    """A shallow bowl with a soft shoulder: relief only, its shading comes from the light."""
    size = surface.height.shape[0]
    x, y, _, _ = grid(size)
    radius = rng.uniform(5.5, 13.5)
    u, v = rotate(x - rng.uniform(12, 52), y - rng.uniform(12, 52), rng.uniform(0, np.pi))
    r = np.hypot(u, v * rng.uniform(1.0, 1.45)) / radius
    bowl = np.where(r < 1, (1 - r * r) ** 2, 0)
    shoulder = np.exp(-(((r - 1.1) / 0.22) ** 2))
    depth = power * radius * rng.uniform(0.33, 0.5)
    return Defect(r < 0.95, 1 - 0.12 * power * bowl, depth * (0.15 * shoulder - bowl))


def stain(rng, surface, power):
    """An irregular patch of rust, oil or water: colour and gloss, no relief."""
    size = surface.height.shape[0]
    x, y, _, _ = grid(size)
    u, v = rotate(x - rng.uniform(14, 50), y - rng.uniform(14, 50), rng.uniform(0, np.pi))
    warp = rng.uniform(0.15, 0.35) * noise(rng, size, rng.uniform(2, 5), 2.9)
    r = np.hypot(u, v * rng.uniform(1.0, 2.0)) / rng.uniform(6, 15) + warp
    inside = ramp(r, 1.0 + rng.uniform(0.04, 0.5), 0.8)
    rim = np.exp(-(((r - 0.93) / 0.09) ** 2)) * rng.uniform(0, 0.5)  # liquids dry from the edge
    base, shine = (
        ((0.70, 0.43, 0.26), 0.3), ((0.52, 0.45, 0.36), 1.8), ((0.58, 0.56, 0.52), 0.5),
        ((0.50, 0.36, 0.26), 0.6),
    )[rng.integers(4)]  # fmt: skip
    amount = np.minimum(1.3 * power * (inside * (0.75 + 0.3 * warp) + rim), 1.25)
    tint = colour(base, rng, 0.05) ** amount
    return Defect(inside > 0.4, tint, 0.0, 1 + (shine - 1) * np.minimum(amount, 1))


def hole(rng, surface, power):
    """Drill holes, blowholes and knot-holes: a dark pit, its wall lit on the far side, a rim."""
    size = surface.height.shape[0]
    x, y, _, _ = grid(size)
    warp = rng.uniform(0, 2 * surface.ragged) * noise(rng, size, 5, 3.0)
    mask = np.zeros((size, size), bool)
    pit, floor, rim = np.zeros((3, size, size), np.float32)
    centre, radius = rng.uniform(10, 54, 2), rng.uniform(1.8, 6.5) * min(1, 0.4 + 0.7 * power)
    first, turn, flat = radius, rng.uniform(0, np.pi), rng.uniform(1.0, 1.4)
    for _ in range(rng.choice((1, 2, 3), p=(0.8, 0.13, 0.07))):
        u, v = rotate(x - centre[0], y - centre[1], turn)
        r = np.hypot(u, v * flat) + warp * radius
        pit = np.maximum(pit, ramp(r, radius + 0.5, radius - 0.5))
        floor = np.maximum(floor, ramp(r, radius * 0.95, radius * 0.35))
        rim = np.maximum(rim, np.exp(-(((r - radius - 0.9) / 0.8) ** 2)))
        mask |= r < radius + 0.5
        centre = np.clip(centre + rng.normal(0, 3 + 1.5 * radius, 2), 6, 58)
        radius = max(1.2, radius * rng.uniform(0.5, 0.9))
    deep = min(0.95, 0.4 + 0.55 * power)
    tint = 1 - deep * pit * (0.65 + 0.35 * floor)
    tint = tint * (1 + rng.choice((-0.3, 0.15)) * power * rim * (1 - pit))
    relief = power * (0.2 * rim - 0.8 * pit - 0.5 * first * floor)
    return Defect(mask, tint, relief, 1 - 0.9 * pit)


DEFECTS = (scratch, crack, dent, stain, hole)  # classes 1 to 5; 0 is "ok"
