"""The exercises of lesson 14: right answers pass, typical wrong ones get their own hint."""

import math

import pytest

from course_utils.lessons.lesson_14 import EXERCISES


def sums(pieces):
    return sum(loss for loss, _ in pieces), sum(count for _, count in pieces)


def right(pieces):
    loss, count = sums(pieces)
    return math.exp(loss / count)


def by_ratio(before, after, limit):
    worse = {name: after[name] / before[name] for name in before}
    return sorted((n for n in worse if worse[n] > limit), key=worse.get, reverse=True)


def by_points(before, after, limit):
    names = [name for name in before if after[name] / before[name] > limit]
    return sorted(names, key=lambda name: before[name] - after[name])


@pytest.mark.parametrize("answer, word", [
    (right, None),
    (lambda p: sums(p)[0] / sums(p)[1], "mean loss in nats"),
    (lambda p: math.exp(sums(p)[0]), "divided by the number"),
    (lambda p: math.exp(sum(a / b for a, b in p) / len(p)), "mean of the pieces' means"),
    (lambda p: sum(math.exp(a / b) for a, b in p) / len(p), "mean of the pieces' perplexities"),
    (lambda p: 2 ** (sums(p)[0] / sums(p)[1]), "the base is e"),
    (lambda p: 1 / right(p), "sign"),
    (lambda p: 5.0, "it should be"),
    (lambda p: None, "nothing yet"),
    (lambda p: "much", "a number is asked for"),
    (lambda p: right([(30.0, 10), (8.0, 40), (45.0, 15)]), "without loss"),
    (3.0, "function"),
])  # fmt: skip
def test_perplexity_from_sums(answer, word):
    hint = EXERCISES["1"](answer)
    assert hint is None if word is None else word in hint


@pytest.mark.parametrize("answer, word", [
    (by_ratio, None),
    (by_points, "compare by the ratio"),
    (lambda b, a, limit: sorted(by_ratio(b, a, limit)), "their order is not"),
    (lambda b, a, limit: sorted(b), "it should be"),
    (lambda b, a, limit: [], "2.4 times"),
    (lambda b, a, limit: None, "nothing yet"),
    (lambda b, a, limit: 3, "list of names"),
    ("documentation", "function"),
])  # fmt: skip
def test_catch_the_forgetting(answer, word):
    hint = EXERCISES["2"](answer)
    assert hint is None if word is None else word in hint
