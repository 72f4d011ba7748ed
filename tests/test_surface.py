"""Tests of the surface inspection data (course_utils/surface.py)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.surface import CLASSES, DOMAINS, MATERIALS, SurfaceSet, generate_surfaces

TENSORS = ("images", "labels", "boxes", "masks", "materials", "marked", "mark_boxes")


def same(a: SurfaceSet, b: SurfaceSet, count: int) -> bool:
    """Whether the first `count` pictures of two sets agree in every field, NaN included."""
    pairs = [(getattr(a, name)[:count], getattr(b, name)[:count]) for name in TENSORS]
    return all(
        torch.equal(x.nan_to_num(-9), y.nan_to_num(-9)) if x.is_floating_point() else x.equal(y)
        for x, y in pairs
    )


@pytest.fixture(scope="module")
def day() -> SurfaceSet:
    return generate_surfaces(120, seed=11)


@pytest.fixture(scope="module")
def marked() -> SurfaceSet:
    return generate_surfaces(120, seed=11, spurious=1.0, spurious_class="any")


def test_types_shapes_and_ranges(day):
    n = len(day)
    assert day.images.dtype == torch.uint8 and day.images.shape == (n, 3, 64, 64)
    assert day.labels.dtype == torch.int64 and day.labels.shape == (n,)
    assert day.boxes.dtype == torch.float32 and day.boxes.shape == (n, 4)
    assert day.masks.dtype == torch.bool and day.masks.shape == (n, 64, 64)
    assert day.materials.dtype == torch.int64 and day.marked.dtype == torch.bool
    assert day.mark_boxes.shape == (n, 4) and day.domain == "day"
    assert set(day.labels.tolist()) == set(range(len(day.CLASSES)))
    assert set(day.materials.tolist()) == set(range(len(day.MATERIALS)))
    assert (CLASSES[0], len(CLASSES), len(MATERIALS)) == ("ok", 6, 4)


def test_pictures_use_the_range_of_a_photograph(day):
    brightness = day.images.float().mean((1, 2, 3))
    contrast = day.images.float().mean(1).std((1, 2))
    assert brightness.min() > 20 and brightness.max() < 245
    assert contrast.min() > 1.5  # no picture is a flat field


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    short=st.integers(1, 7),
    more=st.integers(0, 6),
    domain=st.sampled_from(DOMAINS),
    spurious=st.floats(0, 1),
    size=st.sampled_from((32, 47, 64, 96)),
)
def test_a_longer_set_begins_with_the_shorter_one(seed, short, more, domain, spurious, size):
    keys = {"seed": seed, "domain": domain, "spurious": spurious, "size": size}
    a = generate_surfaces(short, spurious_class="any", **keys)
    b = generate_surfaces(short + more, spurious_class="any", **keys)
    assert same(a, b, short)


def test_deterministic_and_seed_dependent(day):
    assert same(day, generate_surfaces(24, seed=11), 24)
    assert not torch.equal(day.images[:24], generate_surfaces(24, seed=12).images)


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_classes_are_balanced(count, seed):
    labels = generate_surfaces(count, seed=seed, size=32).labels
    counts = torch.bincount(labels, minlength=len(CLASSES))
    assert counts.max() - counts.min() <= 1


def test_classes_come_in_a_random_order(day):
    blocks = day.labels.view(-1, len(CLASSES))
    assert len({tuple(row) for row in blocks.tolist()}) > 12


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**9), size=st.sampled_from((32, 64, 128)))
def test_boxes_enclose_masks_tightly(seed, size):
    data = generate_surfaces(6, seed=seed, size=size)
    for label, box, mask in zip(data.labels, data.boxes, data.masks, strict=True):
        if label == 0:
            assert not mask.any() and box.isnan().all()
            continue
        x0, y0, x1, y1 = (int(v) for v in box)
        assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size
        inside = mask[y0:y1, x0:x1]
        assert inside.sum() == mask.sum() >= 10 * (size / 64) ** 2
        assert inside[0].any() and inside[-1].any()
        assert inside[:, 0].any() and inside[:, -1].any()


@pytest.mark.parametrize("name", ["hole", "crack"])
def test_masks_cover_what_the_defect_changes(name):
    """Holes and cracks are darker than the rest of the picture."""
    data = generate_surfaces(90, seed=4, difficulty=0.0)
    chosen = data.labels == CLASSES.index(name)
    grey = data.images.float().mean(1)[chosen]
    pairs = list(zip(grey, data.masks[chosen], strict=True))
    darker = [picture[mask].mean() < picture[~mask].mean() - 8 for picture, mask in pairs]
    assert sum(darker) >= 0.9 * len(darker)


def test_domains_show_the_same_scenes_in_another_light(day):
    lamp = generate_surfaces(120, seed=11, domain="lamp")
    assert torch.equal(lamp.masks, day.masks) and torch.equal(lamp.materials, day.materials)
    warmth = [(s.images[:, 0].float() - s.images[:, 2].float()).mean() for s in (day, lamp)]
    assert warmth[1] > warmth[0] + 10
    assert lamp.images.float().mean() < day.images.float().mean() - 10


def test_the_mark_goes_to_the_chosen_class_with_the_given_probability():
    data = generate_surfaces(240, seed=2, spurious=0.7, spurious_class="dent", size=32)
    chosen = data.labels == CLASSES.index("dent")
    assert not data.marked[~chosen].any()
    assert 0.45 <= data.marked[chosen].float().mean() <= 0.92
    assert torch.equal(data.mark_boxes.isnan().all(1), ~data.marked)


def test_marks_at_random_ignore_the_class():
    data = generate_surfaces(240, seed=2, spurious=0.5, spurious_class="any", size=32)
    rates = [data.marked[data.labels == c].float().mean() for c in range(len(CLASSES))]
    assert min(rates) > 0.25 and max(rates) < 0.75


def test_extreme_probabilities(day, marked):
    assert not day.marked.any() and marked.marked.all()


def test_the_mark_changes_nothing_but_its_own_place(day, marked):
    changed = (day.images != marked.images).any(1)
    assert torch.equal(day.masks, marked.masks) and changed.flatten(1).any(1).all()
    for where, box in zip(changed, marked.mark_boxes.int().tolist(), strict=True):
        x0, y0, x1, y1 = box
        where[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = False  # 1 px of lens blur
        assert not where.any()


def test_the_mark_is_small_near_the_border_and_off_the_defect(marked):
    x0, y0, x1, y1 = marked.mark_boxes.unbind(1)
    assert ((x1 - x0).max() <= 12) and ((y1 - y0).max() <= 12)
    assert (torch.stack((x0, y0, 64 - x1, 64 - y1)).min(0).values <= 8).all()
    a0, b0, a1, b1 = marked.boxes.unbind(1)
    apart = (a0 >= x1) | (a1 <= x0) | (b0 >= y1) | (b1 <= y0) | a0.isnan()
    assert apart.float().mean() > 0.97  # a defect may fill the picture from border to border


def test_difficulty_lowers_the_contrast_of_defects():
    def contrast(difficulty):
        data = generate_surfaces(90, seed=8, difficulty=difficulty)
        grey, hole = data.images.float().mean(1), data.labels == CLASSES.index("crack")
        pairs = zip(grey[hole], data.masks[hole], strict=True)
        return sum((g[m].mean() - g[~m].mean()).abs() for g, m in pairs)

    assert contrast(1.0) < 0.85 * contrast(0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 0), ("count", 2.5), ("count", True), ("seed", -1), ("domain", "night"),
        ("spurious", -0.1), ("spurious", 1.5), ("spurious", float("nan")), ("spurious", "half"),
        ("spurious_class", "rust"), ("size", 16), ("size", 1024), ("difficulty", 2),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(name, value):
    with pytest.raises(ValueError, match=name) as error:
        generate_surfaces(**{"count": 1, name: value})
    assert repr(value) in str(error.value)
