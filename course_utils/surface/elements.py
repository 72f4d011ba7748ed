"""Building blocks of surfaces: coordinates, correlated noise, colours, strokes.

Lengths are in *frame units*: 1/64 of the side of the picture, that is one pixel at 64 x 64.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft

FRAME = 64.0


@dataclass
class Surface:
    """Colour ``[3, s, s]`` (linear light), relief ``[s, s]`` (frame units) and gloss."""

    albedo: np.ndarray
    height: np.ndarray
    gloss: np.ndarray  # [3, s, s] or [3, 1, 1], colour and strength of the reflection
    rough: tuple[float, float]  # spread of slopes that reflect, along and across the grain
    angle: float  # direction of the grain, radians
    rich: float = 1.0  # how busy the texture is: defects are drawn this much stronger
    ragged: float = 0.1  # how far a hole in this material is from round


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[np.ndarray, ...]:
    """Pixel centres x, y [s, s] in frame units; frequencies fx, fy in cycles per frame."""
    axis = ((np.arange(size) + 0.5) * FRAME / size).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    fy, fx = np.meshgrid(
        np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size), indexing="ij"
    )
    return x, y, fx.astype(np.float32), fy.astype(np.float32)


def rotate(x, y, angle):
    """Coordinates along and across the direction `angle`."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def noise(rng, size, corner, beta, angle=0.0, stretch=1.0):
    """Correlated noise [s, s] of mean 0 and deviation 1.

    Flat spectrum below `corner` cycles per frame, falling as frequency**-beta above it; features
    are `stretch` times longer along `angle`. Drawn in the frequency domain: one inverse FFT.
    """
    _, _, fx, fy = grid(size)
    if stretch != 1.0:
        fx, fy = rotate(fx, fy, angle)
        fx = fx * np.float32(stretch)
    power = fx * fx + fy * fy + np.float32(corner**2)
    white = rng.standard_normal((2, *power.shape), dtype=np.float32)
    spectrum = (white[0] + 1j * white[1]) * power ** np.float32(-beta / 2)
    spectrum[0, 0] = 0
    out = scipy.fft.irfft2(spectrum, s=(size, size))
    return out / (out.std() + np.float32(1e-9))


def ramp(value, low, high):
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) * (1.0 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def colour(rgb, jitter=None, spread=0.08):
    """Colour as [3, 1, 1]; with a generator as `jitter`, varied in brightness and in hue."""
    rgb = np.asarray(rgb, np.float32)
    if jitter is not None:
        rgb = rgb * np.exp(jitter.normal(0, 2 * spread) + jitter.normal(0, spread / 5, 3))
    return rgb.astype(np.float32)[:, None, None]


def mix(a, b, amount):
    return a + (b - a) * amount


def polyline(points, size):
    """Distance of every pixel to a polyline, and where along it (0 start, 1 end) the foot lies."""
    x, y, _, _ = grid(size)
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


def stroke(distance, width, size):
    """Antialiased coverage of a line of `width`; below a pixel it gets paler instead of thinner."""
    pixel = FRAME / size
    return np.clip((width / 2 - distance) / pixel + 0.5, 0, 1) * np.minimum(width / pixel, 1)


def tight_box(mask):
    """Box (x0, y0, x1, y1) in pixels around a mask [s, s], x1 and y1 one past it; NaN if empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return np.full(4, np.nan, np.float32)
    return np.array((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), np.float32)


def angle_gap(a, b):
    """Smallest angle between two undirected lines, 0 to pi/2."""
    return abs((a - b + np.pi / 2) % np.pi - np.pi / 2)
