"""Lesson 01: right answers pass, each typical wrong one gets its own hint; reading curves."""

import math

import matplotlib.pyplot as plt
import pytest

from course_utils.errors import CourseError
from course_utils.lessons.lesson_01 import SITUATIONS, labels_needed, of_seed, plot_curves
from course_utils.questions import lesson_module


def hint(number: str, answer: object) -> str | None:
    return lesson_module("01").EXERCISES[number](answer)


# --- labels needed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [(40, 100), (30, math.sqrt(1000)), (50, math.sqrt(100_000)), (60, 1000), (20, 10), (5, 10)],
)
def test_labels_are_read_off_a_logarithmic_axis(target, expected):
    assert labels_needed([10, 100, 1000], [20, 40, 60], target) == pytest.approx(expected)


def test_an_accuracy_that_is_never_reached_needs_infinitely_many():
    assert labels_needed([10, 100], [20, 40], 41) == math.inf


def test_the_first_crossing_counts_where_a_curve_falls_again():
    assert labels_needed([10, 100, 1000], [20, 40, 30], 40) == pytest.approx(100)
    assert 100 < labels_needed([10, 100, 1000], [30, 20, 60], 40) < 1000


@pytest.mark.parametrize(
    ("sizes", "accuracies"),
    [([10, 100], [20]), ([], []), ([100, 10], [20, 40]), ([10, 10], [20, 40]), ([0, 10], [1, 2])],
)
def test_curves_that_are_none_are_refused(sizes, accuracies):
    with pytest.raises(CourseError):
        labels_needed(sizes, accuracies, 30)


def test_one_seeds_curve():
    assert of_seed({10: [1.0, 2.0], 20: [3.0, 4.0]}, 1) == ([10, 20], [2.0, 4.0])


def test_curves_show_the_median_and_the_range():
    axes = plot_curves({"frozen": {10: [20, 40, 30], 100: [50, 90, 80]}, "one": {10: [1]}}, 7)
    assert list(axes.lines[0].get_ydata()) == [30, 80]
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (20, 90)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10", "100"]
    plt.close(axes.figure)


# --- 01.1, break-even -----------------------------------------------------------------------


def stays(sizes, scratch, tuned):
    for i, size in enumerate(sizes):
        if all(s >= t for s, t in zip(scratch[i:], tuned[i:], strict=True)):
            return size
    return None


def backwards(sizes, scratch, tuned):
    point = None
    for size, s, t in zip(sizes[::-1], scratch[::-1], tuned[::-1], strict=True):
        if s < t:
            break
        point = size
    return point


def first(sizes, scratch, tuned):
    return next((n for n, s, t in zip(sizes, scratch, tuned, strict=True) if s >= t), None)


def strictly(sizes, scratch, tuned):
    return stays(sizes, [s - 1e-9 for s in scratch], tuned)


def place(sizes, scratch, tuned):
    point = stays(sizes, scratch, tuned)
    return None if point is None else sizes.index(point)


@pytest.mark.parametrize("answer", [stays, backwards])
def test_a_break_even_point_passes(answer):
    assert hint("1", answer) is None


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (first, "that was chance"),
        (strictly, "equal is enough"),
        (place, "returns 3, and 10000"),
        (lambda sizes, scratch, tuned: stays(sizes, tuned, scratch), "ahead at 10000"),
        (lambda sizes, scratch, tuned: stays(sizes, scratch, tuned) or sizes[-1], "return None"),
        (lambda sizes, scratch, tuned: None, "returns nothing"),
        (lambda sizes, scratch, tuned: ..., "returns nothing"),
        (1000, "a function"),
    ],
)
def test_a_wrong_break_even_point_gets_its_own_hint(answer, word):
    assert word in hint("1", answer)


# --- 01.2, which way ------------------------------------------------------------------------

RIGHT = {name: way for name, (way, _) in SITUATIONS.items()}


def test_the_right_ways_pass():
    assert hint("2", RIGHT) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sort": "tune"}, "plain names"),
        ({"tickets": "tune"}, "next to nothing"),
        ({"defects": "scratch"}, "off the ground"),
        ({"digits": "frozen"}, "on pixels"),
        ({"digits": ...}, "no answer for 'digits'"),
        ({"digits": "magic"}, "'magic' is no way"),
    ],
)
def test_a_wrong_way_gets_its_own_hint(change, word):
    assert word in hint("2", {**RIGHT, **change})


@pytest.mark.parametrize("answer", ["tune", 3, ["alone"], None])
def test_something_else_than_a_dictionary_is_named(answer):
    assert "a dictionary" in hint("2", answer)
