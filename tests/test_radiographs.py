"""Tests of the drawn radiographs (course_utils/radiographs.py)."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.radiographs import CLASSES, HOSPITALS, RadiographSet, generate_radiographs

TENSORS = ("images", "labels", "boxes", "masks", "marked", "mark_boxes")


def same(a: RadiographSet, b: RadiographSet, count: int) -> bool:
    """Whether the first `count` pictures of two sets agree in every field, NaN included."""
    pairs = [(getattr(a, name)[:count], getattr(b, name)[:count]) for name in TENSORS]
    return all(
        torch.equal(x.nan_to_num(-9), y.nan_to_num(-9)) if x.is_floating_point() else x.equal(y)
        for x, y in pairs
    )


@pytest.fixture(scope="module")
def healthy() -> RadiographSet:
    return generate_radiographs(60, seed=7, positive=0.0)


@pytest.fixture(scope="module")
def ill() -> RadiographSet:
    return generate_radiographs(60, seed=7, positive=1.0)


@pytest.fixture(scope="module")
def marked() -> RadiographSet:
    return generate_radiographs(60, seed=7, positive=1.0, marked=(1.0, 1.0))


def test_types_shapes_and_ranges():
    data = generate_radiographs(20, seed=3, marked=(0.5, 0.5))
    assert len(data) == 20 and data.hospital == "A"
    assert data.images.dtype == torch.uint8 and data.images.shape == (20, 3, 64, 64)
    assert data.labels.dtype == torch.int64 and data.labels.tolist().count(1) == 10
    assert data.boxes.dtype == torch.float32 and data.boxes.shape == (20, 4)
    assert data.masks.dtype == torch.bool and data.masks.shape == (20, 64, 64)
    assert data.marked.dtype == torch.bool and data.mark_boxes.shape == (20, 4)
    assert data.CLASSES == CLASSES == ("healthy", "pneumonia")


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_pictures_are_grey_and_use_the_range_of_a_photograph(hospital):
    images = generate_radiographs(30, seed=1, hospital=hospital).images
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    grey = images[:, 0].float()
    assert grey.mean((1, 2)).min() > 40 and grey.mean((1, 2)).max() < 215
    assert grey.std((1, 2)).min() > 15
    assert ((grey == 0) | (grey == 255)).float().mean() < 0.2, "too much is clipped"


def test_lungs_are_dark_and_the_spine_is_bright(healthy):
    grey = healthy.images[:, 0].float()
    spine = grey[:, 20:45, 31:33].mean((1, 2))
    for lung in (grey[:, 22:34, 16:23], grey[:, 22:34, 42:49]):
        assert (lung.mean((1, 2)) < spine - 30).all()


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    short=st.integers(1, 24),
    more=st.integers(0, 24),
    positive=st.floats(0, 1),
    hospital=st.sampled_from(tuple(HOSPITALS)),
    size=st.sampled_from((32, 47, 64)),
)
def test_a_longer_set_begins_with_the_shorter_one(seed, short, more, positive, hospital, size):
    keys = dict(seed=seed, positive=positive, hospital=hospital, size=size, marked=(0.3, 0.6))
    a = generate_radiographs(short, **keys)
    b = generate_radiographs(short + more, **keys)
    assert same(a, b, short)


def test_deterministic_and_seed_dependent(ill):
    assert same(ill, generate_radiographs(12, seed=7, positive=1.0), 12)
    assert not torch.equal(ill.images[:12], generate_radiographs(12, seed=8, positive=1.0).images)


@settings(max_examples=20, deadline=None)
@given(blocks=st.integers(1, 3), positive=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_the_asked_share_is_ill(blocks, positive, seed):
    labels = generate_radiographs(20 * blocks, seed, positive, size=32).labels
    assert abs(int(labels.sum()) - 20 * blocks * positive) <= 0.5 + 1e-9


def test_ill_people_come_in_a_random_order():
    blocks = generate_radiographs(120, seed=5, size=32).labels.view(-1, 20)
    assert len({tuple(row) for row in blocks.tolist()}) == len(blocks)


def test_the_same_people_healthy_and_ill(healthy, ill):
    changed = (healthy.images[:, 0].int() - ill.images[:, 0].int()).abs()
    assert (changed.flatten(1).max(1).values > 8).all()
    assert changed[~ill.masks].float().mean() < 0.2 * changed[ill.masks].float().mean()
    assert not healthy.masks.any() and healthy.boxes.isnan().all()


def test_opacities_are_brighter_and_some_are_subtle(healthy, ill):
    gain = (ill.images[:, 0].float() - healthy.images[:, 0].float()) * ill.masks
    gain = gain.sum((1, 2)) / ill.masks.sum((1, 2))
    assert gain.min() > 3 and gain.max() > 4 * gain.min()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**9), size=st.sampled_from((32, 64, 128)))
def test_boxes_enclose_masks_tightly(seed, size):
    data = generate_radiographs(6, seed=seed, positive=1.0, size=size)
    for box, mask in zip(data.boxes, data.masks, strict=True):
        x0, y0, x1, y1 = (int(v) for v in box)
        assert 0 <= x0 < x1 <= size and 0 <= y0 < y1 <= size
        inside = mask[y0:y1, x0:x1]
        assert inside.sum() == mask.sum() >= 10 * (size / 64) ** 2
        assert inside[0].any() and inside[-1].any()
        assert inside[:, 0].any() and inside[:, -1].any()


def test_hospitals_take_other_pictures_of_the_same_people():
    sets = {name: generate_radiographs(40, seed=2, hospital=name) for name in HOSPITALS}
    brightness = {name: data.images.float().mean().item() for name, data in sets.items()}
    assert brightness["B"] < brightness["A"] - 10 < brightness["C"] - 10
    assert torch.equal(sets["A"].labels, sets["B"].labels)
    ill = sets["A"].labels.bool()
    assert all(data.masks[ill].flatten(1).any(1).all() for data in sets.values())


def test_the_mark_goes_to_whom_it_should():
    data = generate_radiographs(300, seed=2, marked=(0.1, 0.9), size=32)
    rates = [data.marked[data.labels == c].float().mean().item() for c in (0, 1)]
    assert rates[0] == pytest.approx(0.1, abs=0.08) and rates[1] == pytest.approx(0.9, abs=0.08)
    assert torch.equal(data.mark_boxes.isnan().all(1), ~data.marked)


def test_the_mark_changes_nothing_but_its_own_place(ill, marked):
    assert not ill.marked.any() and marked.marked.all()
    changed = (ill.images != marked.images).any(1)
    assert torch.equal(ill.masks, marked.masks) and changed.flatten(1).any(1).all()
    for where, box in zip(changed, marked.mark_boxes.int().tolist(), strict=True):
        x0, y0, x1, y1 = box
        where[y0:y1, x0:x1] = False
        assert not where.any()


def test_the_mark_is_small_bright_and_in_an_upper_corner(marked):
    x0, y0, x1, y1 = marked.mark_boxes.unbind(1)
    assert (x1 - x0).max() <= 8 and (y1 - y0).max() <= 10 and y1.max() < 20
    assert ((x1 < 16) | (x0 > 48)).all()
    for image, box in zip(marked.images[:, 0], marked.mark_boxes.int().tolist(), strict=True):
        a, b, c, d = box
        assert image[b:d, a:c].max() > 180


def test_a_picture_takes_milliseconds():
    generate_radiographs(5)
    start = time.process_time()
    generate_radiographs(60)
    assert 60 / (time.process_time() - start) > 60  # 250 on an idle core; half that when shared


@pytest.mark.parametrize(
    ("wrong", "allowed"),
    [
        ({"count": 0}, "count=0 is not allowed: it must be a whole number of at least 1"),
        ({"count": 2.5}, "count=2.5"),
        ({"seed": -1}, "seed=-1 .*at least 0"),
        ({"positive": 1.2}, "positive=1.2 .*from 0 to 1"),
        ({"positive": float("nan")}, "positive=nan"),
        ({"hospital": "Z"}, r"hospital='Z' .*\('A', 'B', 'C'\)"),
        ({"hospital": []}, "hospital="),
        ({"marked": 0.5}, "marked=0.5 .*two probabilities"),
        ({"marked": (0.5, 1.5)}, r"marked=\(0.5, 1.5\)"),
        ({"marked": (0.5,)}, "marked="),
        ({"size": 16}, "size=16 .*from 32 to 256"),
        ({"size": True}, "size=True"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(wrong, allowed):
    with pytest.raises(ValueError, match=allowed):
        generate_radiographs(**{"count": 2, **wrong})
