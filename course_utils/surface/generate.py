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

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from course_utils.surface.camera import LIGHTS, lit, photograph
from course_utils.surface.defects import DEFECTS
from course_utils.surface.elements import (
    FRAME,
    Surface,
    colour,
    mix,
    polyline,
    rotate,
    stroke,
    tight_box,
)
from course_utils.surface.materials import TEXTURES
from course_utils.surface.settings import REAL, check, common_rules, number

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


def _mark(rng, albedo, mask):
    """Draw a small tick of blue chalk near the border, off the defect where there is room."""
    size = mask.shape[0]
    spots = rng.uniform(5, 59, (16, 2))
    side = rng.permutation(16) % 4
    spots[np.arange(16), side // 2] = np.where(side % 2, 58.5, 5.5) + rng.uniform(-1, 1, 16)
    defect = tight_box(mask) * FRAME / size
    gap = np.maximum(spots - 4 - defect[2:], defect[:2] - spots - 4).max(1)
    # the first place that is clear of the defect's box; failing that, the one closest to clear
    centre = spots[np.argmax(np.where(gap > 0.5, 99.0, gap)) if mask.any() else 0]
    tick = np.array(((-2.4, -0.2), (-0.8, 1.8), (2.4, -2.0))) * rng.uniform(0.85, 1.1)
    turn = rng.normal(0, 0.25)
    points = np.stack(rotate(tick[:, 0], tick[:, 1], turn), 1) + centre
    distance, _ = polyline(points, size)
    cover = stroke(distance, rng.uniform(1.3, 1.8), size) * rng.uniform(0.55, 0.8)
    return mix(albedo, colour((0.10, 0.24, 0.62), rng, 0.04), cover), distance < 1.5


def _picture(seed, index, label, domain, spurious, wants_mark, size, difficulty):
    """One picture: uint8 [3, s, s], mask [s, s], material, and the mask of the mark or None."""
    scene, view, chalk = (np.random.default_rng((seed, index, s)) for s in (_SCENE, _VIEW, _MARK))
    material = int(scene.choice(len(MATERIALS), p=MATERIAL_SHARES[label]))
    surface = TEXTURES[material](scene, size)
    light = LIGHTS[domain]
    # the camera half-corrects for dark materials; measured before the defect, so no giveaway
    exposure = (0.33 / (float(surface.albedo.mean()) + 0.03)) ** 0.45
    mask = np.zeros((size, size), bool)
    albedo, height, gloss = surface.albedo, surface.height, surface.gloss
    if label:
        weakest = 1 - 0.9 * difficulty
        power = surface.rich * scene.uniform(weakest, 1.0 + 0.2 * (1 - difficulty))
        while mask.sum() < 10 * (size / FRAME) ** 2:  # an unlucky defect may miss the picture
            defect = DEFECTS[label - 1](scene, surface, power)
            mask = defect.mask
        albedo = albedo * defect.tint
        height, gloss = height + defect.relief, gloss * defect.gloss
    chalked = None
    if wants_mark and chalk.random() < spurious:
        albedo, chalked = _mark(chalk, albedo, mask)
    surface = Surface(
        albedo.astype(np.float32), np.asarray(height, np.float32), np.asarray(gloss, np.float32),
        surface.rough, surface.angle,
    )  # fmt: skip
    image = photograph(view, lit(view, surface, light), light, exposure)
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
        boxes[i] = tight_box(masks[i])
        if chalked is not None:
            mark_boxes[i] = tight_box(chalked)
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
    names = (*CLASSES, MARK_ANYWHERE)
    check((
        *common_rules(count, seed, size),
        ("domain", domain, domain in DOMAINS, f"one of {DOMAINS}"),
        ("spurious", spurious, number(spurious, 0, 1, REAL), "a probability from 0 to 1"),
        ("spurious_class", spurious_class, spurious_class in names, f"one of {names}"),
        ("difficulty", difficulty, number(difficulty, 0, 1, REAL), "a number from 0 to 1"),
    ))  # fmt: skip
