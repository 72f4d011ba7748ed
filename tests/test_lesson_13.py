"""The exercises of lesson 13: right answers pass, typical wrong ones get their own hint."""

import pytest

from course_utils.lessons.lesson_13 import EXERCISES, mean_score


def best(margins, scores, empty):
    candidates = [min(margins) - 1, *margins]
    return max(candidates, key=lambda t: mean_score(t, margins, scores, empty))


def at_or_above(margins, scores, empty):
    def total(t):
        return sum(s if m >= t else e for m, s, e in zip(margins, scores, empty, strict=True))

    return max([*margins, max(margins) + 1], key=total)


@pytest.mark.parametrize("answer, word", [
    (best, None),
    (lambda m, s, e: 0.0, "unsure ones"),
    (lambda m, s, e: max(m, key=lambda t: mean_score(t, m, s, e)), "speak always"),
    (lambda m, s, e: min(m) - 1, "unsure ones"),
    (lambda m, s, e: 1.0 if max(m) == 5 else min(m) - 1, "never to speak"),
    (lambda m, s, e: max(0.0, best(m, s, e)) if min(m) < -2 else best(m, s, e), "negative"),
    (at_or_above, "at or above"),
    (lambda m, s, e: None, "nothing yet"),
    (lambda m, s, e: [0.5], "one number"),
    (lambda m, s, e: float("nan"), "one number"),
    (0.5, "function"),
])  # fmt: skip
def test_choosing_a_threshold(answer, word):
    hint = EXERCISES["1"](answer)
    assert hint is None if word is None else word in hint


def spell(tags, join_other=False, ignore_lonely=False, b_joins=False, last_missing=False, end=0):
    names, before = [], "O"
    for i, tag in enumerate(tags):
        goes_on = tag[:1] == "I" and (before[2:] == tag[2:] or (join_other and before != "O"))
        if (goes_on or (b_joins and tag[:1] == "B" and before[2:] == tag[2:])) and names:
            names[-1] = (names[-1][0], i, names[-1][2])
        elif tag[:1] == "B" or (tag[:1] == "I" and not ignore_lonely):
            names.append((i, i, tag[2:]))
        before = tag
    if last_missing and tags[-1] != "O":
        names.pop()
    return [(a, b + end, label) for a, b, label in names]


@pytest.mark.parametrize("answer, word", [
    (spell, None),
    (lambda tags: [list(name) for name in spell(tags)], None),
    (lambda tags: spell(tags, b_joins=True), "even right behind"),
    (lambda tags: spell(tags, last_missing=True), "it should be"),
    (lambda tags: spell(tags, join_other=True), "another label"),
    (lambda tags: spell(tags, ignore_lonely=True), "it should be"),
    (lambda tags: spell(tags, end=1), "not the one behind it"),
    (lambda tags: [], "even right behind"),
    (lambda tags: None, "nothing yet"),
    (lambda tags: ["DATE"], "first, last, label"),
    (7, "function"),
])  # fmt: skip
def test_spelling_names(answer, word):
    hint = EXERCISES["2"](answer)
    assert hint is None if word is None else word in hint
