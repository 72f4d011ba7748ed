"""The exercises of lesson 41: right answers pass, typical wrong ones get their own hint."""

import math

import pytest

from course_utils.lessons.lesson_41 import (
    A_RANK,
    BUDGET,
    BYTES,
    EXERCISES,
    MISTAKES,
    RANK,
    rank_report,
)


def test_the_largest_rank_fits_and_the_next_does_not():
    assert RANK * A_RANK * BYTES <= BUDGET < (RANK + 1) * A_RANK * BYTES
    assert RANK not in MISTAKES and len(MISTAKES) == 6  # no two mistakes lead to one number


@pytest.mark.parametrize("answer, word", [
    (RANK, None),
    (float(RANK), None),
    (RANK + 1, "round down, not up"),
    (24, "takes two"),
    (6, "single precision"),
    (144, "there are twelve"),
    (15, "B (out x rank) only"),
    (54, "A (rank x in) only"),
    (7, "room for more"),
    (100, "too much"),
    (12.06, "round down"),
    (27, "first of the two"),
    (0, "at least 1"),
    (-3, "at least 1"),
    (math.nan, "not a whole number"),
    (math.inf, "not a whole number"),
    (True, "whole number"),
    ("nine", "whole number"),
    (None, "whole number"),
    (..., "whole number"),
    ([], "whole number"),
])  # fmt: skip
def test_pick_the_rank(answer, word):
    hint = EXERCISES["1"](answer)
    assert hint is None if word is None else word in hint


def right(weight, down, up, alpha):
    return weight + alpha / len(down) * up @ down


def in_place(weight, down, up, alpha):
    weight += alpha / len(down) * up @ down
    return weight


@pytest.mark.parametrize("answer, word", [
    (right, None),
    (in_place, "has changed"),
    (lambda w, d, u, a: w + u @ d, "alpha and the rank are missing"),
    (lambda w, d, u, a: w + a * u @ d, "divided by the rank"),
    (lambda w, d, u, a: w + u @ d / len(d), "alpha is missing"),
    (lambda w, d, u, a: w + a / len(u) * u @ d, "layer's outputs"),
    (lambda w, d, u, a: w + a / d.shape[1] * u @ d, "layer's inputs"),
    (lambda w, d, u, a: a / len(d) * u @ d, "change alone"),
    (lambda w, d, u, a: w - a / len(d) * u @ d, "not taken away"),
    (lambda w, d, u, a: right(w, d, u, a).T, "(out, rank) times (rank, in)"),
    (lambda w, d, u, a: w, "look at section 1"),
    (lambda w, d, u, a: None, "it returns None"),
    (lambda w, d, u, a: 3, "it returns 3"),
    (..., "function"),
    (None, "function"),
    (3, "function"),
])  # fmt: skip
def test_merge_by_hand(answer, word):
    hint = EXERCISES["2"](answer)
    assert hint is None if word is None else word in hint


def test_the_rank_lab_counts_what_add_lora_adds():
    from test_lora import tiny_gpt

    from course_utils.lora import LoRALinear, add_lora

    model = tiny_gpt()
    total = sum(weight.numel() for weight in model.parameters())
    add_lora(model, 3, targets=("c_attn", "c_proj", "c_fc"))
    added = sum(weight.numel() for weight in model.parameters()) - total
    shapes = [(m.base.nx, m.base.nf) for m in model.modules() if isinstance(m, LoRALinear)]
    told = rank_report(3, shapes, total, [0.2, 0.3, 0.45, 1.0])
    assert told.startswith(f"{added:,} weights") and "45%" in told
    assert "100%" in rank_report(64, shapes, total, [0.2, 1.0]), "a rank beyond the matrix's own"
