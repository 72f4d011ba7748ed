"""The exercises of lesson 03: right answers pass, typical wrong ones get their own hint."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from course_utils.lessons.lesson_03 import EXERCISES, time_by_kind


def cost(frozen, trained, epochs):
    return frozen + epochs * 3 * trained


@pytest.mark.parametrize("answer, word", [
    (lambda f, t, e: e * (f + 3 * t) / cost(f, t, e), None),
    (lambda f, t, e: cost(f, t, e) / (e * (f + 3 * t)), "upside down"),
    (lambda f, t, e: (f + t) / t, "as free"),
    (lambda f, t, e: e * (f + t) / (f + e * t), "backward"),
    (lambda f, t, e: e * 3 * (f + t) / cost(f, t, e), "only run forward"),
    (lambda f, t, e: e, "add up"),
    ("fast", "function"),
])  # fmt: skip
def test_speedup(answer, word):
    hint = EXERCISES["1"](answer)
    assert hint is None if word is None else word in hint


@pytest.mark.parametrize("answer, word", [
    (lambda parts: sum(s for s, _ in parts) / sum(n for _, n in parts), None),
    (lambda parts: sum(s / n for s, n in parts) / len(parts), "mean of the means"),
    (lambda parts: sum(s for s, _ in parts), "divide by the number of all"),
    (lambda parts: sum(s for s, _ in parts) / len(parts), "not of micro-batches"),
    (lambda parts: 9.0, "another number"),
    (3.0, "function"),
])  # fmt: skip
def test_mean_loss(answer, word):
    hint = EXERCISES["2"](answer)
    assert hint is None if word is None else word in hint


def test_the_time_of_a_profile_is_divided_by_kind():
    weight = torch.nn.Parameter(torch.randn(256, 256))
    optimizer = torch.optim.AdamW([weight])
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(3):
            torch.nn.functional.dropout(weight @ weight, 0.5).sum().backward()
            optimizer.step()
    events = profiler.key_averages()
    kinds = time_by_kind(events)
    assert all(seconds >= 0 for seconds in kinds.values())
    for kind in ("matrix products", "random numbers", "optimizer", "everything else"):
        assert kinds[kind] > 0
    total = sum(event.self_cpu_time_total for event in events) / 1e6
    assert sum(kinds.values()) == pytest.approx(total, rel=0.2)
