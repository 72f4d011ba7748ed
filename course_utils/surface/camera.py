"""Light and camera: how a surface becomes a photograph, by day or under a lamp."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import correlate1d

from course_utils.surface.elements import FRAME, grid, mix, ramp, rotate


@dataclass(frozen=True)
class Light:
    """One way of lighting and photographing; ranges are drawn uniformly for each picture."""

    ambient: tuple[float, float, float]  # light from everywhere
    key: tuple[float, float, float]  # light from the lamp or the window
    slant: tuple[float, float]  # cotangent of the elevation: 0 overhead, 3 raking
    spread: float  # size of the source, as slopes that still mirror it
    falloff: tuple[float, float]  # how strongly the key fades across the picture
    vignette: tuple[float, float]
    noise: tuple[float, float]
    shadow: float  # darkness of cast shadows and of the edge of a passing shadow


LIGHTS = {
    "day": Light(
        (0.40, 0.42, 0.45), (0.62, 0.61, 0.58), (0.5, 1.1), 0.15,
        (0.0, 0.5), (0.0, 0.3), (0.005, 0.014), 0.4,
    ),
    "lamp": Light(
        (0.16, 0.15, 0.16), (1.25, 1.00, 0.69), (1.5, 2.8), 0.08,
        (0.5, 1.4), (0.2, 0.65), (0.012, 0.028), 0.7,
    ),
}  # fmt: skip


def slopes(height):
    """Slope of the relief along x and y (central differences, flat at the border)."""
    scale = height.shape[0] / (2 * FRAME)
    sx, sy = np.zeros_like(height), np.zeros_like(height)
    sx[:, 1:-1] = (height[:, 2:] - height[:, :-2]) * scale
    sy[1:-1] = (height[2:] - height[:-2]) * scale
    return sx, sy


def cast_shadow(height, toward, slant):
    """How much of the key is hidden [s, s] by higher relief on the way to the light."""
    size = height.shape[0]
    reach, pixel = 5, size / FRAME
    pad = int(np.ceil(reach * pixel)) + 1
    tall = np.pad(height, pad, mode="edge")
    hidden = np.zeros_like(height)
    for step in range(1, reach + 1):
        dx, dy = (round(float(step * pixel * c)) + pad for c in toward)
        above = tall[dy : dy + size, dx : dx + size] - height - np.float32(step / slant)
        np.maximum(hidden, above, out=hidden)
    return np.minimum(hidden * 2.5, 1)


def distractors(rng, size, light):
    """Innocent light and shade [s, s]: edge of a passing shadow, and a list of dust specks."""
    x, y, _, _ = grid(size)
    key = np.float32(1)
    if rng.random() < 0.3:
        across = rotate(x - 32, y - 32, rng.uniform(0, np.pi))[1] - rng.uniform(-26, 26)
        soft = rng.uniform(1.5, 9)
        shade = ramp(across, -soft, soft)
        if rng.random() < 0.4:  # a bar (cable, window frame) instead of a half plane
            shade = shade * ramp(across, rng.uniform(8, 20) + 2 * soft, rng.uniform(6, 8))
        key = 1 - light.shadow * rng.uniform(0.4, 1.0) * shade
    dust = np.float32(0)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 6)):
            cx, cy = rng.uniform(0, 64, 2)
            spot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / rng.uniform(0.3, 1.0))
            dust = dust + spot * rng.choice((-0.6, 0.3)) * rng.uniform(0.3, 1)
    return key, dust


def lit(rng, surface, light):
    """Linear RGB picture [3, s, s] of a surface: diffuse light, cast shadow and reflection."""
    height = surface.height
    size = height.shape[0]
    x, y, _, _ = grid(size)
    azimuth, slant = rng.uniform(0, 2 * np.pi), rng.uniform(*light.slant)
    toward = np.array((np.cos(azimuth), np.sin(azimuth)), np.float32)  # in the picture
    shade, dust = distractors(rng, size, light)
    sx, sy = slopes(height)
    facing = np.clip(1 - slant * (sx * toward[0] + sy * toward[1]), 0, 2.5)
    toward_x = (x - 32) * toward[0] / 64 + (y - 32) * toward[1] / 64
    fade = 1 / (1 + rng.uniform(*light.falloff) * (0.5 - toward_x)) ** 2
    hidden = cast_shadow(height, toward, slant)
    key = (shade * fade * (1 - light.shadow * hidden)).astype(np.float32)
    # Reflection: a pixel shines when its slope mirrors the source into the camera. The slope it
    # takes changes across the picture, which is what turns it into a highlight with a place.
    tilt = slant / (np.sqrt(1 + slant**2) + 1) * rng.uniform(0.1, 0.9)
    bend = rng.uniform(0.2, 0.9) / 64
    mx = -sx - toward[0] * tilt + (x - 32) * bend
    my = -sy - toward[1] * tilt + (y - 32) * bend
    along, across = rotate(mx, my, surface.angle)
    width = [1 / (r * r + light.spread**2) for r in surface.rough]
    lobe = np.exp(-0.5 * (along * along * width[0] + across * across * width[1]))
    colour = [np.asarray(c, np.float32)[:, None, None] for c in (light.ambient, light.key)]
    body = surface.albedo * (1 + dust) * (colour[0] * (0.4 + 0.6 * fade) + colour[1] * key * facing)
    return body + surface.gloss * (colour[1] * (key * lobe) + 0.25 * colour[0])


def photograph(rng, linear, light, exposure):
    """Camera: exposure, vignette, white balance, soft lens, sensor noise, gamma, 8 bits."""
    size = linear.shape[-1]
    x, y, _, _ = grid(size)
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
    picture = mix(picture, picture * picture * (3 - 2 * picture), 0.6)  # a camera's tone curve
    picture = picture + level * (0.8 * grain[3] + 0.5 * grain[:3])
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
