"""Lesson 02: its makers of dirt, and the hints of its exercises."""

import csv
import difflib
import html
import io
import math
import random
import re

import numpy as np
import pytest

from course_utils.lessons.lesson_02 import ARRIVING, DIRT, KNOWN, messy_csv, needed, resend
from course_utils.questions import lesson_module

TEXTS = [f"Message {i}: it's late, I don't know what to do, the café took £{i}" for i in range(200)]
LABELS = [("refund_status", "order_cancel", "off_topic")[i % 3] for i in range(200)]


def hint(number: str, answer: object) -> str | None:
    return lesson_module("02").EXERCISES[number](answer)


# --- dirt -----------------------------------------------------------------------------------


def rows_of(raw: bytes, encoding: str = "utf-8") -> list[tuple[str, str]]:
    text = "".join(line.decode(encoding) for line in raw.splitlines(keepends=True))
    return [tuple(row) for row in csv.reader(io.StringIO(text))][1:]


def plain(text: str) -> str:
    return text.replace("’", "'")


def test_without_dirt_the_file_holds_the_messages_in_another_order():
    rows = rows_of(messy_csv(TEXTS, LABELS, kinds=()))
    assert sorted((plain(t), label) for t, label in rows) == sorted(zip(TEXTS, LABELS, strict=True))


def test_the_file_is_the_same_for_a_seed_and_another_for_another():
    assert messy_csv(TEXTS, LABELS, 1) == messy_csv(TEXTS, LABELS, 1)
    assert messy_csv(TEXTS, LABELS, 1) != messy_csv(TEXTS, LABELS, 2)


def test_wrong_bytes_are_latin_1_among_utf_8():
    raw = messy_csv(TEXTS, LABELS, kinds=("wrong bytes",))
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")
    broken = 0
    for line in raw.splitlines()[1:]:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            text, broken = line.decode("cp1252"), broken + 1
        assert plain(next(csv.reader([text]))[0]) in TEXTS
    assert 0.1 * len(TEXTS) < broken < 0.6 * len(TEXTS)


def test_mojibake_can_be_undone():
    rows = rows_of(messy_csv(TEXTS, LABELS, kinds=("mojibake",)))
    garbled = [text for text, _ in rows if "Ã" in text]
    assert 0.1 * len(TEXTS) < len(garbled) < 0.6 * len(TEXTS)
    assert all(plain(t.encode("cp1252").decode("utf-8")) in TEXTS for t in garbled)


def test_html_can_be_stripped():
    rows = rows_of(messy_csv(TEXTS, LABELS, kinds=("HTML",)))
    tagged = [text for text, _ in rows if "<" in text]
    assert tagged
    for text in tagged:
        clean = " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())
        assert plain(clean) in TEXTS


@pytest.mark.parametrize(
    "kind", ["exact duplicates", "near duplicates", "contradictions", "empty texts"]
)
def test_kinds_that_add_rows_add_their_share(kind):
    rows = rows_of(messy_csv(TEXTS, LABELS, kinds=(kind,)))
    assert len(rows) == len(TEXTS) + round(DIRT[kind] * len(TEXTS))


def test_contradictions_have_two_labels_for_a_text_and_duplicates_one():
    def labels_by_text(kind):
        found: dict[str, set[str]] = {}
        for text, label in rows_of(messy_csv(TEXTS, LABELS, kinds=(kind,))):
            found.setdefault(text, set()).add(label)
        return found

    two = [text for text, found in labels_by_text("contradictions").items() if len(found) == 2]
    assert len(two) == round(DIRT["contradictions"] * len(TEXTS))
    assert all(len(found) == 1 for found in labels_by_text("exact duplicates").values())


def test_labels_are_misspelt_but_not_beyond_recognition():
    rows = rows_of(messy_csv(TEXTS, LABELS, kinds=("label spellings",)))
    strange = [label for _, label in rows if label not in LABELS]
    assert 0.2 * len(TEXTS) < len(strange) < 0.6 * len(TEXTS)
    for label in strange:
        tidy = re.sub(r"[\s-]+", "_", label.strip().lower())
        assert difflib.get_close_matches(tidy, sorted(set(LABELS)), 1, 0.8)


def test_missing_labels_are_missing():
    rows = rows_of(messy_csv(TEXTS, LABELS, kinds=("missing labels",)))
    assert {"", "?", "n/a"} <= {label for _, label in rows}


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="unknown kinds of dirt .*'mud'"):
        messy_csv(TEXTS, LABELS, kinds=("mud",))


@pytest.mark.parametrize("text", ["Why?", "no", *TEXTS[:5]])
def test_a_message_sent_again_is_nearly_the_same_and_repeatable(text):
    for seed in range(20):
        again = resend(text, random.Random(seed))
        assert again.strip() and again == resend(text, random.Random(seed))
        if len(text) > 20:
            ratio = difflib.SequenceMatcher(None, text.lower(), again.lower()).ratio()
            assert ratio > 0.6


# --- exercise 1 -----------------------------------------------------------------------------


def words(text: str) -> list[str]:
    bare = html.unescape(re.sub(r"<[^>]+>", " ", text)).lower()
    return re.findall(r"[a-z0-9']+", bare)


def runs(text: str, length: int = 3) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + length]) for i in range(len(found) - length + 1)} or {tuple(found)}


def by(similar):
    """A solution that calls a pair of training and test message the same if `similar` does."""

    def find_leaks(train, test):
        return [i for i, new in enumerate(test) if any(similar(old, new) for old in train)]

    return find_leaks


def overlap(share, length=3, of=min):
    def similar(old, new):
        a, b = runs(old, length), runs(new, length)
        return len(a & b) >= share * of(len(a), len(b))

    return by(similar)


def test_catch_the_leak_right_answers():
    assert hint("1", overlap(0.5)) is None
    assert hint("1", overlap(0.4)) is None
    assert hint("1", overlap(0.5, length=2)) is None

    def mask(train, test):
        found = overlap(0.5)(train, test)
        return [i in found for i in range(len(test))]

    assert hint("1", mask) is None

    def ratio(old, new):
        a, b = (" ".join(words(text)) for text in (old, new))
        blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
        return sum(block.size for block in blocks if block.size > 4) > 0.7 * min(len(a), len(b))

    assert hint("1", by(ratio)) is None


def test_catch_the_leak_each_disguise_has_its_hint():
    assert "word for word" in hint("1", lambda train, test: [])
    assert "capitals" in hint("1", by(lambda old, new: old == new))
    assert "greeting" in hint("1", by(lambda old, new: words(old) == words(new)))
    assert "exchanged" in hint("1", by(lambda old, new: _within(old, new)))
    assert "beginning" in hint("1", overlap(0.6, of=lambda old, new: old))

    def with_tags(old, new):
        a, b = (re.findall(r"[a-z0-9']+", text.lower()) for text in (old, new))
        pairs = [{tuple(x[i : i + 3]) for i in range(len(x) - 2)} or {tuple(x)} for x in (a, b)]
        return len(pairs[0] & pairs[1]) >= 0.55 * min(map(len, pairs))

    assert "HTML" in hint("1", by(with_tags))


def _within(old: str, new: str) -> bool:
    return " ".join(words(old)) in " ".join(words(new))


def test_catch_the_leak_false_alarms_and_other_slips():
    assert "every test message" in hint("1", lambda train, test: list(range(len(test))))
    assert "shared phrase" in hint("1", by(lambda old, new: len(runs(old) & runs(new)) > 0))
    assert "positions" in hint("1", lambda train, test: [test[0]])
    assert "positions" in hint("1", lambda train, test: [0.93, 0.2])
    assert "returns nothing" in hint("1", lambda train, test: None)
    assert "two lists" in hint("1", lambda train: [])
    assert "none of the" in hint("1", lambda train, test: [1, 99])
    assert "comes alone" in hint("1", lambda train, test: overlap(0.5)(train, test) or [0])
    assert "*test* messages" in hint("1", lambda train, test: [3])
    assert "function" in hint("1", [1, 2])


def test_the_planted_cases_hold_every_disguise_once():
    kinds = [kind for kind, _ in ARRIVING if kind]
    assert len(kinds) == len(set(kinds)) and set(kinds) == set(lesson_module("02").MISSED)
    assert len(set(KNOWN)) == len(KNOWN)


# --- exercise 2 -----------------------------------------------------------------------------


@pytest.mark.parametrize("z", [1.96, 2, 1.959964])
def test_examples_needed_right_answers(z):
    assert hint("2", lambda g, d: math.ceil((z / g) ** 2 * (d - g**2))) is None
    assert hint("2", lambda g, d: math.ceil(z**2 * d / g**2)) is None


@pytest.mark.parametrize(
    ("slip", "word"),
    [
        (lambda g, d: needed(g, d), "whole"),
        (lambda g, d: int(needed(g, d)), "up"),
        (lambda g, d: math.ceil(d / g**2), "multiply it by 1.96"),
        (lambda g, d: math.ceil(1.96 * d / g**2), "1.96 is still to be squared"),
        (lambda g, d: math.ceil(1.96**2 * d / g), "gain is still to be squared"),
        (lambda g, d: 1.96 * d**0.5 / g, "square is missing"),
        (lambda g, d: math.ceil((2 * 1.96 / g) ** 2 * d), "whole interval"),
        (lambda g, d: (1.96 / (100 * g)) ** 2 * d, "shares"),
        (lambda g, d: math.ceil((1.96 / g) ** 2 * d * (1 - d)), "one model's accuracy"),
        (lambda g, d: math.ceil(10000 * g * d), "smaller gain needs more"),
        (lambda g, d: math.ceil(0.3 * needed(g, d)), "too few"),
        (lambda g, d: math.ceil(9 * needed(g, d)), "too many"),
        (lambda g, d: "many", "number of test examples"),
        (lambda g: 5, "two numbers"),
        (1234, "function"),
    ],
)
def test_examples_needed_each_slip_has_its_hint(slip, word):
    assert word in hint("2", slip)


@pytest.mark.parametrize("threshold, says", [
    (0.5, "2 of 3 alarms are right, 2 of 3 are found, 1 missed (precision 0.67, recall 0.67)"),
    (0.0, "3 of 5 alarms are right, 3 of 3 are found, 0 missed (precision 0.60, recall 1.00)"),
    (1.0, "no alarm at all, 0 of 3 are found, 3 missed (recall 0.00)"),
])  # fmt: skip
def test_the_threshold_lab_counts_alarms(threshold, says):
    from course_utils.lessons.lesson_02 import alarms

    p, truth = np.array([0.9, 0.7, 0.6, 0.2, 0.1]), np.array([1, 0, 1, 1, 0], dtype=bool)
    assert alarms(p, truth, threshold) == says
