"""Lesson 22: right answers pass, each typical wrong one gets its own hint; the measurements."""

import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from course_utils.data import Examples, Task
from course_utils.lessons import lesson_22
from course_utils.lessons.lesson_22 import (
    COLUMNS,
    ENOUGH,
    EXERCISES,
    GROUPS,
    SLICE,
    auc,
    audit_rows,
    bins_of,
    bootstrap,
    by_group,
    calibration_error,
    cheapest,
    cost,
    flatter,
    in_slice,
    net_benefit,
    people,
    plot_decisions,
    plot_groups,
    plot_reliability,
    plot_roc_and_pr,
    plot_swap,
    stamped,
)


@pytest.fixture
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Two hundred people, one in five ill, with calibrated probabilities, some of them equal."""
    draw = np.random.default_rng(0)
    p = draw.beta(1, 4, 200).round(2)
    return (draw.random(200) < p).astype(int), p


# --- 22.1, find the slice -------------------------------------------------------------------

WRONG_SLICES = {
    "no dict": ("lying", "a dict"),
    "empty": ({}, "a dict"),
    "the answer itself": ({"right": False}, "known before"),
    "no such column": ({"weight": "high"}, "no column 'weight'"),
    "no such value": ({"view": "sitting"}, "never 'sitting'"),
    "one half": ({"view": "lying"}, "half of the answer"),
    "the other half": ({"machine": "old"}, "half of the answer"),
    "a single other one": ({"night": "yes"}, "two columns"),
    "a part of it": ({**SLICE, "age": "child"}, "changes nothing"),
    "a good slice": ({"view": "standing", "machine": "new"}, "another slice is worse"),
}  # fmt: skip


def test_the_planted_slice_passes_in_any_order():
    assert EXERCISES["1"](SLICE) is None
    assert EXERCISES["1"](dict(reversed(SLICE.items()))) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_SLICES.values(), ids=WRONG_SLICES)
def test_a_wrong_slice_gets_its_own_hint(answer, word):
    assert word in EXERCISES["1"](answer)


def test_a_slice_of_few_cases_is_called_so():
    small = {"machine": "new", "age": "adult", "night": "no", "view": "lying"}
    assert len(in_slice(audit_rows(), small)) < ENOUGH
    assert "too few to tell" in EXERCISES["1"](small)


def test_the_planted_slice_is_the_worst_of_those_with_enough_cases():
    rows = audit_rows()
    pairs = [
        {a: x, b: y} for a in COLUMNS for b in COLUMNS if a < b
        for x in COLUMNS[a] for y in COLUMNS[b]
    ]  # fmt: skip
    assert all(len(in_slice(rows, pair)) >= ENOUGH for pair in pairs)
    ranked = sorted(pairs, key=lambda pair: np.mean(in_slice(rows, pair)))
    assert ranked[0] == SLICE or dict(sorted(ranked[0].items())) == dict(sorted(SLICE.items()))
    worst, second = (np.mean(in_slice(rows, pair)) for pair in ranked[:2])
    assert second - worst > 0.1
    assert rows == audit_rows(), "the table is the same for everybody"


# --- 22.2, the threshold for a cost ---------------------------------------------------------

WRONG_THRESHOLDS = {
    "a number": (0.05, "a function is asked for"),
    "upside down": (lambda miss, alarm: miss / (miss + alarm), "LOWER"),
    "odds": (lambda miss, alarm: alarm / miss, "odds"),
    "no alarm cost": (lambda miss, alarm: 1 / (1 + miss), "does not use its cost"),
    "half": (lambda miss, alarm: 0.5, "both mistakes cost the same"),
    "outside": (lambda miss, alarm: miss - alarm, "between 0 and 1"),
    "outside in one case": (lambda miss, alarm: 1 / miss, "threshold(1.0, 1.0) is 1;"),
    "nothing": (lambda miss, alarm: None, "it returns None"),
    "not finite": (lambda miss, alarm: math.nan, "it returns nan"),
    "another": (lambda miss, alarm: 0.1, "solve for p"),
}


def test_the_right_threshold_passes_and_is_the_cheapest_for_right_probabilities():
    assert EXERCISES["2"](lambda miss, alarm: alarm / (miss + alarm)) is None
    p = np.linspace(0.01, 0.99, 99)
    expected = {t: np.where(p >= t, 1 - p, 20 * p).sum() for t in p}
    assert min(expected, key=expected.get) == pytest.approx(1 / 21, abs=0.011)


@pytest.mark.parametrize(("answer", "word"), WRONG_THRESHOLDS.values(), ids=WRONG_THRESHOLDS)
def test_a_wrong_threshold_gets_its_own_hint(answer, word):
    assert word in EXERCISES["2"](answer)


@pytest.mark.parametrize("answer", [None, ..., "x", 3, [], (), {"a": []}, object])
@pytest.mark.parametrize("number", ["1", "2"])
def test_nonsense_gets_a_hint(number, answer):
    try:
        found = EXERCISES[number](answer)
    except Exception:  # `check` turns it into a hint
        return
    assert isinstance(found, str) and len(found) > 20


# --- measurements ---------------------------------------------------------------------------


def test_auc_is_that_of_scikit_learn_and_ties_count_half(predictions):
    from sklearn.metrics import roc_auc_score

    truth, p = predictions
    assert len(np.unique(p)) < len(p), "ties are tested, too"
    assert auc(truth, p) == pytest.approx(roc_auc_score(truth, p))
    assert auc(truth, np.ones(len(p))) == 0.5
    assert auc(truth, truth) == 1 and auc(truth, -truth) == 0
    assert auc(truth, 1 / (1 + np.exp(-3 * p))) == pytest.approx(auc(truth, p))


def test_bootstrap_holds_the_value_and_narrows_with_people(predictions):
    truth, p = predictions
    few, many = bootstrap(auc, truth, p, 200), bootstrap(auc, np.tile(truth, 9), np.tile(p, 9), 200)
    assert few.low < few.value < few.high
    assert many.high - many.low < 0.6 * (few.high - few.low)


def test_cost_counts_misses_and_alarms():
    truth, p = np.array([1, 1, 0, 0]), np.array([0.9, 0.2, 0.6, 0.1])
    assert cost(truth, p, 0.5, 20) == (20 + 1) / 4
    assert cost(truth, p, 0.0, 20) == 2 / 4 and cost(truth, p, 1.0, 20) == 40 / 4
    assert cheapest(truth, p, 20) == 0.2, "both ill ones, one false alarm"
    assert cheapest(truth, p, 0.1) in (0.9, 1.0)


def test_the_cheapest_threshold_is_never_dearer_than_another(predictions):
    truth, p = predictions
    for miss in (0.5, 3, 20):
        best = cost(truth, p, cheapest(truth, p, miss), miss)
        assert all(best <= cost(truth, p, t, miss) for t in np.linspace(0, 1, 41))


def test_net_benefit_is_minus_the_cost_up_to_a_constant(predictions):
    truth, p = predictions
    t = 1 / 21
    for limit_of in (p, np.ones(len(p)), np.zeros(len(p))):
        spent = cost(truth, limit_of, t, 20)
        assert net_benefit(truth, limit_of, t) == pytest.approx(truth.mean() - spent / 20)
    assert net_benefit(truth, np.zeros(len(p)), 0.3) == 0


def test_calibration_error_is_small_only_for_right_probabilities(predictions):
    truth, p = predictions
    assert calibration_error(truth, p) < 0.1 < calibration_error(truth, (p + 1) / 2)
    assert calibration_error(truth, truth.astype(float)) == 0
    bins = bins_of(p)
    assert sorted(np.concatenate(bins).tolist()) == list(range(len(p)))
    assert max(map(len, bins)) - min(map(len, bins)) <= 1


def test_groups_are_what_they_are_called():
    truth, marked = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 1])
    right = np.array([True, False, False, True, False])
    assert by_group(right, truth, marked) == dict(zip(GROUPS, (100, 0, 0, 50), strict=True))


# --- people and the mark --------------------------------------------------------------------


@pytest.mark.parametrize("size", [28, 64, 128])
def test_the_stamp_is_small_bright_in_a_corner_and_on_a_copy(size):
    images = torch.full((20, 3, size, size), 90, dtype=torch.uint8)
    marked = stamped(images)
    assert (images == 90).all() and marked.dtype == torch.uint8
    for image in marked:
        rows, columns = (image != 90).any(0).nonzero(as_tuple=True)
        assert 0 < len(rows) <= 0.05 * size**2 or size < 32
        assert rows.max() < size / 2 and image[:, rows, columns].min() > 200
        assert columns.max() < size / 2 or columns.min() >= size / 2
    assert torch.equal(marked, stamped(images)) and not torch.equal(marked, stamped(images, 1))


def test_drawn_people_are_bare_and_of_the_asked_share():
    found = people("radiographs", 40, 0.1, seed=3)
    assert int(found.labels.sum()) == 4 and not found.columns["marked"].any()
    there = people("radiographs", 40, 0.1, seed=3, hospital="B")
    assert torch.equal(there.labels, found.labels)
    assert there.inputs.float().mean() < found.inputs.float().mean()


@pytest.mark.parametrize(("count", "share", "people_found"), [(50, 0.1, 50), (200, 0.5, 80)])
def test_people_of_a_public_dataset_are_of_the_asked_share(count, share, people_found, monkeypatch):
    images = torch.randint(60, 200, (160, 1, 32, 32), dtype=torch.uint8).repeat(1, 3, 1, 1)
    examples = Examples(images, (torch.arange(160) % 4 > 0).long())  # 40 of 160 are healthy
    thirds = [examples.select(torch.arange(i, 160, 3)) for i in range(3)]
    task = Task("pneumonia", "image", ("healthy", "pneumonia"), *thirds)
    monkeypatch.setattr(lesson_22, "load_task", lambda name: task)
    if share < 0.5:  # only 40 healthy people there
        people_found = 44
    found = people("pneumonia", count, share, seed=1)
    assert len(found) == people_found
    assert abs(found.labels.float().mean() - share) < 0.02
    assert len(found.inputs.flatten(1).unique(dim=0)) == len(found)
    away = people("pneumonia", count, share, seed=1, hospital="B")
    assert torch.equal(away.labels, found.labels)
    assert away.inputs.float().mean() < found.inputs.float().mean()


def test_a_poorer_machine_is_flatter_and_keeps_greys_grey():
    images = torch.arange(256, dtype=torch.uint8).repeat(3, 3, 256, 1)
    other = flatter(images)
    assert other.dtype == torch.uint8 and torch.equal(other[:, 0], other[:, 2])
    assert other.float().mean() < images.float().mean()
    assert other[..., -20:].float().mean() - other[..., :20].float().mean() < 0.8 * 236


# --- figures --------------------------------------------------------------------------------


def test_the_figures_show_what_they_are_given(predictions):
    truth, p = predictions
    assert len(plot_roc_and_pr({"one": (truth, p), "two": (truth, p**2)}).axes) == 2
    panels = plot_reliability({"one": (truth, p), "two": (truth, p / 2)}).axes
    assert [panel.get_title() for panel in panels] == ["one", "two"]
    axes = plot_decisions([0.1, 0.2], {"model": [0.05, 0.02], "nobody": [0.0, 0.0]}, [0.1])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["model", "nobody"]
    assert len(plot_swap(p, np.sqrt(p), truth).lines) >= 3
    run = dict.fromkeys(GROUPS, 80.0)
    axes = plot_groups({"plain": [run, run], "balanced": [run]})
    assert len(axes.patches) == 8
    plt.close("all")
