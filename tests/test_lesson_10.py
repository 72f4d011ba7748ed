"""Lesson 10: right answers pass, each typical wrong one gets its own hint."""

import pytest
import torch

from course_utils.lessons.lesson_10 import best_stage
from course_utils.questions import lesson_module


def hint(number: str, answer: object) -> str | None:
    return lesson_module("10").EXERCISES[number](answer)


# --- 10.1, the masked mean ------------------------------------------------------------------


def wide(mask):
    return mask.unsqueeze(-1)


RIGHT_MEANS = {
    "weights": lambda x, m: (x * wide(m)).sum(1) / wide(m).sum(1),
    "masked_fill": lambda x, m: x.masked_fill(~wide(m), 0).sum(1) / m.sum(1, keepdim=True),
    "einsum": lambda x, m: torch.einsum("btd,bt->bd", x, m.float()) / m.sum(1)[:, None],
    "one text after another": lambda x, m: torch.stack(
        [vectors[real].mean(0) for vectors, real in zip(x, m, strict=True)]
    ),
}
WRONG_MEANS = {
    "padding included": (lambda x, m: x.mean(1), "all positions"),
    "divided by T": (lambda x, m: (x * wide(m)).mean(1), "longest text"),
    "sum": (lambda x, m: (x * wide(m)).sum(1), "how many they are"),
    "whole batch": (lambda x, m: (x * wide(m)).sum(1) / m.sum(), "whole batch"),
    "first token": (lambda x, m: x[:, 0], "first token"),
    "mask turned round": (
        lambda x, m: (x * ~wide(m)).sum(1) / (~m).sum(1, keepdim=True),
        "wrong way round",
    ),
    "padding added up": (lambda x, m: x.sum(1) / m.sum(1, keepdim=True), "set them to zero"),
    "one more": (lambda x, m: (x * wide(m)).sum(1) / (wide(m).sum(1) + 1), "not the mean"),
    "mask of two dimensions": (lambda x, m: (x * m).sum(1), "unsqueeze"),
    "over the features": (lambda x, m: x.mean(2), "dimension 1"),
    "over everything": (lambda x, m: x[m].mean(), "dimension 1"),
    "a number": (lambda x, m: 3.0, "3.0"),
    "not done": (lambda x, m: None, "returns nothing"),
    "no function": (torch.ones(3, 4), "function"),
}


@pytest.mark.parametrize("answer", RIGHT_MEANS.values(), ids=RIGHT_MEANS)
def test_a_masked_mean_passes_however_it_is_written(answer):
    assert hint("1", answer) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_MEANS.values(), ids=WRONG_MEANS)
def test_a_wrong_mean_gets_its_own_hint(answer, word):
    assert word in hint("1", answer)


# --- 10.2, the stage within a budget --------------------------------------------------------


def within(accuracies, layers):
    return {stage: accuracies[stage] for stage in list(accuracies)[: layers + 1]}


def the_later_of_equals(accuracies, layers):
    affordable = within(accuracies, layers)
    return max(reversed(affordable), key=affordable.get)


WRONG_STAGES = {
    "best of all": (lambda a, n: max(a, key=a.get), "needs 4 layers"),
    "deepest": (lambda a, n: list(within(a, n))[-1], "deeper is not always better"),
    "cheapest": (lambda a, n: "embeddings", "reaches 0.70"),
    "one too many": (lambda a, n: max(within(a, n + 1), key=a.get), "layer0 is the first"),
    "one too few": (lambda a, n: max(within(a, max(n - 1, 0)), key=a.get), "within the budget too"),
    "later of equals": (the_later_of_equals, "cheaper one of equals"),
    "its accuracy": (lambda a, n: max(within(a, n).values()), "name of a stage"),
    "its number": (lambda a, n: n, "name of a stage"),
    "not done": (lambda a, n: None, "returns nothing"),
    "a name": ("layer2", "function"),
}


def test_choosing_the_best_stage_within_the_budget_passes():
    assert hint("2", best_stage) is None
    assert hint("2", lambda a, n: sorted(within(a, n), key=lambda s: -a[s])[0]) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_STAGES.values(), ids=WRONG_STAGES)
def test_a_wrong_choice_gets_its_own_hint(answer, word):
    assert word in hint("2", answer)


@pytest.mark.parametrize(
    ("layers", "stage"),
    [(0, "embeddings"), (1, "layer0"), (2, "layer0"), (3, "layer2"), (9, "layer2")],
)
def test_the_best_stage_within_a_budget(layers, stage):
    table = {"embeddings": 0.4, "layer0": 0.7, "layer1": 0.7, "layer2": 0.9}
    assert best_stage(table, layers) == stage
