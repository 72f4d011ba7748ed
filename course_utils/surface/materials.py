"""The four materials: colour, relief and gloss of metal, iron, wood and tile."""

import numpy as np

from course_utils.surface.elements import Surface, colour, grid, mix, noise, ramp, rotate


def metal(rng, size):
    """Brushed or turned metal: streaks that reflect, in straight lines or in wide arcs."""
    x, y, _, _ = grid(size)
    angle = rng.uniform(0, np.pi)
    base = colour(
        ((0.50, 0.51, 0.53), (0.62, 0.62, 0.62), (0.36, 0.37, 0.39), (0.60, 0.45, 0.22))[
            rng.choice(4, p=(0.4, 0.3, 0.18, 0.12))
        ],
        rng,
    )
    if rng.random() < 0.7:
        streak = noise(rng, size, rng.uniform(8, 30), 0.9, angle, rng.uniform(25, 70))
        streak += 0.6 * noise(rng, size, 25, 0.8, angle, rng.uniform(8, 18))
    else:  # turned on a lathe: the tool leaves grooves around a centre, often out of the picture
        away = rng.uniform(20, 160)
        cx, cy = 32 - away * np.sin(angle), 32 + away * np.cos(angle)
        radius = np.hypot(x - cx, y - cy)
        feed = np.cumsum(rng.normal(0, 1, 512) * (rng.random(512) < 0.7))
        profile = rng.normal(0, 1, 512) + 0.25 * (feed - feed.mean()) / (feed.std() + 1e-6)
        streak = np.interp(radius * rng.uniform(0.8, 1.6), np.arange(512), profile)
        streak = (streak + 0.5 * noise(rng, size, 12, 0.8)).astype(np.float32)
    patina = noise(rng, size, 1.5, 3.5)
    albedo = base * (0.75 + rng.uniform(0.03, 0.075) * streak + 0.03 * patina)
    height = rng.uniform(0.02, 0.06) * streak + rng.uniform(0, 0.5) * patina
    gloss = base * rng.uniform(0.5, 1.4) * np.maximum(1 + rng.uniform(0.1, 0.25) * streak, 0.2)
    return Surface(albedo * 0.75, height, gloss, (0.1, 0.4), angle, 1.1, 0.05)


def iron(rng, size):
    """Sand-cast iron: dull, dark, grainy, pitted, with a breath of rust; sometimes painted."""
    grain = noise(rng, size, rng.uniform(6, 13), rng.uniform(2.4, 3.2))
    fine = noise(rng, size, 30, 1.0)
    pits = ramp(noise(rng, size, rng.uniform(10, 18), 2.4), 1.5, 2.6)
    blotch = noise(rng, size, 2.5, 2.0)
    painted = rng.random() < 0.2
    paints = ((0.11, 0.15, 0.13), (0.22, 0.24, 0.25), (0.12, 0.14, 0.17), (0.24, 0.23, 0.20))
    iron = ((0.11, 0.11, 0.112), (0.15, 0.147, 0.144), (0.09, 0.092, 0.096), (0.13, 0.12, 0.11))
    base = colour((paints if painted else iron)[rng.integers(4)], rng, 0.1)
    rust = colour((1.25, 0.95, 0.75)) ** (0.5 * rng.random())
    tone = 1 + 0.05 * grain + 0.05 * fine - 0.45 * pits
    albedo = base * np.maximum(tone, 0.2) * mix(1, rust, ramp(blotch, -0.5, 2.5))
    height = rng.uniform(0.08, 0.28) * grain + 0.05 * fine - 0.8 * pits + 0.3 * blotch
    gloss = colour((0.10, 0.10, 0.10)) * rng.uniform(0.3, 1.8) * (1 - 0.8 * pits)
    return Surface(albedo, height, gloss, (0.2, 0.2), 0.0, 1.5, 0.22)


def wood(rng, size):
    """Sawn wood: year rings cut at a slant, fibres, pores, and often a sound knot."""
    x, y, _, _ = grid(size)
    angle = rng.uniform(0, np.pi)
    along, across = rotate(x - 32, y - 32, angle)
    across = across + rng.uniform(0.5, 2.2) * noise(rng, size, 2, 2.6, angle, 3.0)
    knot = np.float32(0)
    if rng.random() < 0.35:  # the grain flows around a knot as water around a pile
        radius = rng.uniform(2.5, 6.5)
        ka, kc = along - rng.uniform(-26, 26), across - rng.uniform(-26, 26)
        square = (ka / rng.uniform(1.1, 1.7)) ** 2 + kc * kc + 0.3
        across = across - kc * np.minimum(radius**2 / square, 1) * 0.95
        distance = np.sqrt(square)
        knot = ramp(distance, radius * 1.25, radius * 0.7)
        core = 0.5 + 0.5 * np.sin(distance * rng.uniform(1.6, 2.6) + rng.uniform(0, 6))
    pith = rng.uniform(-70, 70)
    ring = np.hypot(along * rng.uniform(0.02, 0.22), across - pith) / rng.uniform(3.0, 9.0)
    ring = ring + 0.35 * np.sin(ring * rng.uniform(0.5, 1.2) + rng.uniform(0, 6))
    phase = ring - np.floor(ring)
    late = phase * phase * (1 - ramp(phase, 0.8, 1.0))  # slow darkening, then an abrupt edge
    fibre = noise(rng, size, rng.uniform(14, 28), 0.9, angle, rng.uniform(12, 30))
    pores = ramp(noise(rng, size, 26, 1.2, angle, rng.uniform(6, 12)), 1.2, 2.6)
    pale, dark = (
        ((0.58, 0.40, 0.22), (0.38, 0.20, 0.085)),
        ((0.42, 0.27, 0.14), (0.25, 0.14, 0.065)),
        ((0.20, 0.115, 0.065), (0.11, 0.06, 0.035)),
        ((0.62, 0.49, 0.33), (0.50, 0.35, 0.20)),
        ((0.44, 0.23, 0.12), (0.28, 0.12, 0.06)),
        ((0.33, 0.30, 0.26), (0.20, 0.18, 0.155)),
    )[rng.integers(6)]
    pale, dark = colour(pale, rng), colour(dark, rng, 0.04)
    albedo = mix(pale, dark, late * rng.uniform(0.6, 1.4))
    albedo = albedo * (1 + 0.07 * fibre - rng.uniform(0, 0.4) * pores)
    height = 0.04 * fibre - 0.2 * pores + 0.1 * late
    if np.ndim(knot):
        albedo = mix(albedo, dark * (0.55 + 0.35 * core + 0.05 * fibre), knot * 0.85)
    gloss = colour((0.07, 0.065, 0.06)) * rng.uniform(0.2, 1.5)
    return Surface(albedo, height, gloss, (0.2, 0.35), angle, 1.1, 0.15)


def tile(rng, size):
    """Glazed, speckled, granite, marble or fired tile, sometimes with a joint."""
    angle = rng.uniform(0, np.pi)
    style = rng.integers(5)
    blotch, fine = noise(rng, size, 2.5, 1.8), noise(rng, size, 30, 1.0)
    bases = (
        (0.66, 0.65, 0.62), (0.62, 0.56, 0.45), (0.30, 0.38, 0.42), (0.36, 0.42, 0.36),
        (0.45, 0.45, 0.46), (0.22, 0.25, 0.30),
    )  # fmt: skip
    base = colour(bases[rng.integers(6)], rng, 0.1)
    tone, gloss = 1 + 0.035 * blotch + 0.012 * fine, rng.uniform(0.1, 0.5)
    ripple = noise(rng, size, rng.uniform(2, 5), 3.6)  # glaze flows: only smooth waves
    relief = rng.uniform(0.1, 0.45) * ripple
    if style == 1:  # speckled glaze
        spots = noise(rng, size, rng.uniform(14, 24), 2.6)
        tone = tone - rng.uniform(0.2, 0.5) * ramp(spots, 1.4, 2.2)
        tone = tone + rng.uniform(0, 0.2) * ramp(-spots, 1.5, 2.3)
    elif style == 2:  # granite: grains of three minerals
        crystals = noise(rng, size, rng.uniform(9, 16), 2.2)
        mica = ramp(noise(rng, size, rng.uniform(12, 18), 2.4), 0.8, 1.2)
        tone = tone * (1 + 0.16 * np.tanh(3 * crystals) + 0.05 * fine) - 0.4 * mica
        relief, gloss = 0.3 * relief + 0.02 * fine, gloss * 0.7
    elif style == 3:  # marble: soft veins, where a warped noise crosses zero
        vein = np.abs(noise(rng, size, 2.0, 2.5, angle, 2.5)) + 0.04 * np.abs(fine)
        vein = np.exp(-vein / rng.uniform(0.08, 0.25)) * ramp(blotch, -1.0, 1.0)
        tone = tone * (1 - rng.uniform(0.15, 0.45) * vein)
    elif style == 4:  # fired clay: matt, grainy, warm
        base = colour((0.36, 0.20, 0.13), rng, 0.12)
        grain = noise(rng, size, 18, 1.6)
        tone, relief = tone + 0.06 * grain + 0.03 * blotch, relief + 0.1 * grain
        gloss *= 0.12
    albedo = base * np.maximum(tone, 0.1)
    if rng.random() < 0.45:
        albedo, relief = joint(rng, albedo, relief, fine, angle)
    return Surface(
        albedo,
        relief,
        colour((1, 1, 1)) * gloss,
        (0.09, 0.09),
        angle,
        1.2 if style in (2, 3) else 1.1,
        0.12,
    )


def joint(rng, albedo, relief, fine, angle):
    """One or two straight grout lines; the tile beyond has a tone of its own."""
    size = relief.shape[0]
    x, y, _, _ = grid(size)
    grout = colour((0.42, 0.41, 0.38), rng, 0.2) * (1 + 0.08 * fine)
    for turn in (0, np.pi / 2)[: rng.choice((1, 2), p=(0.65, 0.35))]:
        _, across = rotate(x - 32, y - 32, angle + turn)
        across = across - rng.uniform(-28, 28) + 0.1 * fine
        half = rng.uniform(0.7, 1.9)
        albedo = albedo * (1 + rng.normal(0, 0.05) * (across > 0))
        cover = np.clip(half - np.abs(across) + 0.5, 0, 1)
        relief = mix(relief, 0.05 * fine, cover) - 0.9 * ramp(np.abs(across), half + 1.5, half)
        albedo = mix(albedo, grout, cover)
    return albedo, relief


TEXTURES = (metal, iron, wood, tile)
