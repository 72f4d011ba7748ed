"""Lesson 42: right answers pass, each typical wrong one gets its own hint."""

import logging
import sys
import warnings

import numpy as np
import pytest

from course_utils.lessons.lesson_42 import (
    PROTOTYPE_CASES,
    THRESHOLD_CASES,
    quiet_libraries,
    ticks_and_legend,
)
from course_utils.plotting import new_axes
from course_utils.questions import lesson_module


def hint(number: str, answer: object) -> str | None:
    return lesson_module("42").EXERCISES[number](answer)


# --- 42.1, the prototype classifier ---------------------------------------------------------


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def means(vectors, labels):
    return np.stack([vectors[labels == c].mean(0) for c in np.unique(labels)])


def by_cosine(vectors, labels, queries):
    return np.unique(labels)[(queries @ unit(means(vectors, labels)).T).argmax(1)]


def by_loop(vectors, labels, queries):
    names = sorted(set(labels.tolist()))
    centres = {c: vectors[labels == c].sum(0) for c in names}
    return [
        max(names, key=lambda c: q @ centres[c] / np.linalg.norm(centres[c])) for q in queries
    ]  # fmt: skip


def nearest_text(vectors, labels, queries):
    return labels[(queries @ vectors.T).argmax(1)]


def sums(vectors, labels, queries):
    names = np.unique(labels)
    centres = np.stack([vectors[labels == c].sum(0) for c in names])
    return names[(queries @ centres.T).argmax(1)]


RIGHT_PROTOTYPES = {"cosine": by_cosine, "loop": by_loop}
WRONG_PROTOTYPES = {
    "a value": (3, "function"),
    "not done": (lambda v, y, q: None, "returns nothing"),
    "similarities": (lambda v, y, q: q @ unit(means(v, y)).T, "shape"),
    "one similarity": (lambda v, y, q: (q @ unit(means(v, y)).T).max(1), "not similarities"),
    "places": (lambda v, y, q: (q @ unit(means(v, y)).T).argmax(1), "look them up"),
    "nearest text": (nearest_text, "not its nearest text"),
    "sums": (sums, "mean and not the sum"),
    "short means": (
        lambda v, y, q: np.unique(y)[(q @ means(v, y).T).argmax(1)],
        "length one",
    ),
    "farthest": (lambda v, y, q: np.unique(y)[(q @ means(v, y).T).argmin(1)], "nearest one"),
    "order of arrival": (
        lambda v, y, q: np.array(list(dict.fromkeys(y.tolist())))[
            (q @ unit(means(v, y)).T).argmax(1)
        ],
        "mixed order",
    ),
}


@pytest.mark.parametrize("answer", RIGHT_PROTOTYPES.values(), ids=RIGHT_PROTOTYPES)
def test_a_prototype_classifier_passes_however_it_is_written(answer):
    assert hint("1", answer) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_PROTOTYPES.values(), ids=WRONG_PROTOTYPES)
def test_a_wrong_prototype_classifier_gets_its_own_hint(answer, word):
    assert word in hint("1", answer)


def test_each_prototype_case_has_as_many_answers_as_queries():
    for _, vectors, labels, queries, expected in PROTOTYPE_CASES:
        assert len(vectors) == len(labels) and len(queries) == len(expected)


# --- 42.2, a threshold ----------------------------------------------------------------------


def lowest(sure, right, wanted):
    good = [t for t in np.unique(sure) if right[sure >= t].mean() >= wanted]
    return min(good, default=float("inf"))


def until_the_first_failure(sure, right, wanted):
    found = float("inf")
    for t in sorted(set(sure.tolist()), reverse=True):
        if right[sure >= t].mean() < wanted:
            break
        found = t
    return found


def strictly(sure, right, wanted):
    good = [t for t in np.unique(sure) if right[sure >= t].mean() > wanted]
    return min(good, default=float("inf"))


def in_the_order_given(sure, right, wanted):
    counts = np.cumsum(right) / np.arange(1, len(right) + 1)
    good = [i for i in range(len(sure)) if counts[i] >= wanted]
    return sure[good[-1]] if good else float("inf")


def one_by_one(sure, right, wanted):
    order = np.argsort(-sure, kind="stable")
    counts = np.cumsum(right[order]) / np.arange(1, len(right) + 1)
    good = np.flatnonzero(counts >= wanted)
    return sure[order][good[-1]] if len(good) else float("inf")


def or_nothing(sure, right, wanted):
    found = lowest(sure, right, wanted)
    return None if np.isinf(found) else found


WRONG_THRESHOLDS = {
    "a value": (0.9, "function"),
    "not done": (lambda s, r, w: None, "returns nothing yet"),
    "the wanted precision": (lambda s, r, w: w, "from 0.7 on"),
    "keep all": (lambda s, r, w: 0.0, "from 0.7 on"),
    "too strict": (lambda s, r, w: s.max(), "from 0.7 on"),
    "unsorted": (in_the_order_given, "in no order"),
    "the first failure": (until_the_first_failure, "do not stop"),
    "above, not at least": (strictly, "includes equal"),
    "ties": (one_by_one, "all of them or none"),
    "none": (or_nothing, "float('inf')"),
    "a mask": (lambda s, r, w: s >= 0.7, "one number"),
    "a word": (lambda s, r, w: "high", "one number"),
}


def test_the_lowest_threshold_passes():
    assert hint("2", lowest) is None
    assert hint("2", lambda s, r, w: float(lowest(s, r, w))) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_THRESHOLDS.values(), ids=WRONG_THRESHOLDS)
def test_a_wrong_threshold_gets_its_own_hint(answer, word):
    assert word in hint("2", answer)


def test_the_stated_thresholds_are_the_lowest():
    for sure, right, wanted, expected, _ in THRESHOLD_CASES:
        assert lowest(np.array(sure), np.array(right), wanted) == expected


# --- silence --------------------------------------------------------------------------------


def test_libraries_are_quiet_inside_and_heard_again_afterwards(capsys, caplog):
    with quiet_libraries():
        print("spoken")
        print("shouted", file=sys.stderr)
        logging.getLogger("setfit.trainer").warning("logged")
        warnings.warn("warned", stacklevel=1)
    print("heard")
    logging.getLogger("setfit.trainer").warning("heard as well")
    assert capsys.readouterr().out == "heard\n"
    assert caplog.messages == ["heard as well"]


def test_an_error_passes_through_the_silence():
    with pytest.raises(ValueError, match="loud"), quiet_libraries():
        raise ValueError("loud")
    assert logging.root.manager.disable == 0


def test_a_figure_has_ticks_where_it_was_measured_and_a_legend_outside():
    axes = new_axes()
    axes.plot([1, 2, 8], [0, 1, 2], label="a line")
    axes.set_xscale("log")
    ticks_and_legend(axes, [1, 2, 8])
    assert axes.get_xticks().tolist() == [1, 2, 8]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "8"]
    assert axes.get_xticks(minor=True).tolist() == []
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a line"]
