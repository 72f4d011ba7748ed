"""Lesson 23: right answers pass, each typical wrong one gets its own hint."""

import math

import pytest
import torch
from matplotlib import pyplot as plt

from course_utils.detection import Found, grid_points, make_trays
from course_utils.lessons.lesson_23 import (
    EXERCISES,
    RIGHT,
    SCORES,
    THINGS,
    WANTED,
    best_threshold,
    counted,
    first_fall,
    kept_above,
    plot_assignment,
    plot_precision_recall,
    plot_scenes,
)

# --- 23.1, intersection over union ----------------------------------------------------------


def sides(a, b, more=0):
    wide = min(a[2], b[2]) - max(a[0], b[0]) + more
    high = min(a[3], b[3]) - max(a[1], b[1]) + more
    return wide, high


def area(a, more=0):
    return (a[2] - a[0] + more) * (a[3] - a[1] + more)


def both(a, b, more=0):
    wide, high = sides(a, b, more)
    return max(wide, 0) * max(high, 0)


def right(a, b):
    return both(a, b) / (area(a) + area(b) - both(a, b))


def one_more(a, b):
    common = both(a, b, 1)
    return common / (area(a, 1) + area(b, 1) - common)


def negative(a, b):
    wide, high = sides(a, b)
    return wide * high / (area(a) + area(b) - wide * high)


def negative_once(a, b):
    wide, high = sides(a, b)
    common = max(wide * high, 0)
    return common / (area(a) + area(b) - common)


@pytest.mark.parametrize("answer, word", [
    (right, None),
    (lambda a, b: torch.tensor(right(a, b)), None),
    (lambda a, b: round(right(a, b), 3), None),
    (one_more, "one pixel more"),
    (lambda a, b: both(a, b) / (area(a) + area(b)), "counts twice"),
    (lambda a, b: both(a, b) / area(a), "first box only"),
    (lambda a, b: both(a, b) / area(b), "second box only"),
    (lambda a, b: both(a, b) / min(area(a), area(b)), "smaller box"),
    (both, "divide it by the union"),
    (negative, "must not become negative"),
    (negative_once, "two negative sides"),
    (lambda a, b: 0.5, "the answer is"),
    (lambda a, b: None, "a number is asked for"),
    (lambda a, b: True, "a number is asked for"),
    (lambda a, b: "x", "a number is asked for"),
    (lambda a, b: math.nan, "the answer is"),
    (..., "a function"),
    (0.3, "a function"),
    (None, "a function"),
])  # fmt: skip
def test_iou(answer, word):
    hint = EXERCISES["1"](answer)
    assert hint is None if word is None else word in hint


# --- 23.2, a threshold ----------------------------------------------------------------------

BEST = best_threshold()
PRECISION, RECALL = kept_above(BEST)


def test_the_list_has_the_traps_that_the_hints_speak_of():
    assert list(SCORES) == sorted(SCORES, reverse=True) and len(SCORES) == len(RIGHT)
    assert PRECISION >= WANTED and first_fall() > BEST and sum(RIGHT) < THINGS
    assert not math.isclose(PRECISION, RECALL, abs_tol=0.02)
    assert BEST not in (0.8, 0.81)


@pytest.mark.parametrize("answer, word", [
    ({"threshold": BEST, "recall": RECALL}, None),
    ({"threshold": BEST - 0.01, "recall": round(RECALL, 2)}, None),
    ({"threshold": first_fall(), "recall": RECALL}, "rises again"),
    ({"threshold": 0.8, "recall": RECALL}, "the detector's own opinion"),
    ({"threshold": 0.1, "recall": RECALL}, "too few"),
    ({"threshold": 0.78, "recall": RECALL}, "would find more"),
    ({"threshold": BEST, "recall": PRECISION}, "that is the precision"),
    ({"threshold": BEST, "recall": RECALL * THINGS / sum(RIGHT)}, "never found"),
    ({"threshold": BEST, "recall": sum(s >= BEST for s in SCORES) / THINGS}, "all kept boxes"),
    ({"threshold": BEST, "recall": 0.1}, "how many of the 16"),
    ({"threshold": BEST}, "a dict is asked for"),
    ({"threshold": "x", "recall": 0.5}, "from 0 to 1"),
    ({"threshold": BEST, "recall": 56}, "from 0 to 1"),
    ({"threshold": True, "recall": 0.5}, "from 0 to 1"),
    (0.5, "a dict is asked for"),
    (..., "a dict is asked for"),
    (None, "a dict is asked for"),
])  # fmt: skip
def test_threshold(answer, word):
    hint = EXERCISES["2"](answer)
    assert hint is None if word is None else word in hint


# --- the figures ----------------------------------------------------------------------------


def test_what_is_in_a_picture_in_words():
    some = Found.true(torch.zeros(3, 4), torch.tensor([1, 0, 1]))
    assert counted(some, ("a", "b", "c")) == "1 × a, 2 × b"
    assert counted(some.select(torch.tensor([], dtype=torch.int64)), ("a", "b")) == "nothing"


def test_the_figures_show_every_box_and_cell():
    trays = make_trays(2)
    figure = plot_scenes(trays, [0, 1])
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len(texts) == sum(map(len, trays.truth))
    found = [Found(one.boxes, one.labels, one.scores / 2) for one in trays.truth]
    texts = [text.get_text() for text in plot_scenes(trays, [0, 1], found).axes[0].texts]
    assert all(text.endswith("0.50") for text in texts)
    points = grid_points(128, 128)
    owner = torch.full((256,), -1)
    owner[:3] = 0
    right = plot_assignment(trays, 0, points, owner).axes[1]
    assert len(right.patches) == 3 + len(trays.truth[0])
    axes = plot_precision_recall({"a": (torch.ones(3), torch.rand(3))}, {0.3: (0.5, 0.5)})
    assert len(axes.lines) == 2
    plt.close("all")
