"""Lesson 40: right answers pass, each typical wrong one gets its own hint; the head trains."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from safetensors.torch import save_file

from course_utils.lessons.lesson_40 import (
    SEARCHES,
    Trial,
    Vectors,
    new_head,
    open_study,
    right,
    steepest,
    train_head,
    work,
)
from course_utils.questions import lesson_module


def hint(number: str, answer: object) -> str | None:
    return lesson_module("40").EXERCISES[number](answer)


# --- 40.1, twenty trials --------------------------------------------------------------------

RATE, DROPOUT = FloatDistribution(5e-4, 1e-1, log=True), FloatDistribution(0.0, 0.6)
WIDTH, BATCH = IntDistribution(16, 256, log=True), CategoricalDistribution([16, 32])

RIGHT_SPACES = {
    "two settings": {"rate": RATE, "dropout": DROPOUT},
    "three": {"rate": RATE, "width": WIDTH, "batch": BATCH},
    "wide": {"rate": FloatDistribution(1e-4, 1, log=True), "width": WIDTH},
    "one is fixed": {
        "rate": RATE, "width": WIDTH, "dropout": DROPOUT, "batch": CategoricalDistribution([32]),
    },
}  # fmt: skip
WRONG_SPACES = {
    "a number": (20, "a dictionary"),
    "nothing": ({}, "a dictionary"),
    "unknown": ({"rate": RATE, "momentum": DROPOUT}, "no setting 'momentum'"),
    "not a distribution": ({"rate": (1e-4, 1e-1), "width": WIDTH}, "an Optuna distribution"),
    "no rate": ({"dropout": DROPOUT, "width": WIDTH}, "decides most"),
    "a list": ({"rate": CategoricalDistribution([1e-3, 1e-2]), "width": WIDTH}, "no order"),
    "whole numbers": ({"rate": IntDistribution(0, 1), "width": WIDTH}, "not a whole number"),
    "plain": ({"rate": FloatDistribution(1e-4, 1e-1), "width": WIDTH}, "plain scale"),
    "copied": ({"rate": FloatDistribution(1e-6, 1e-4, log=True), "width": WIDTH}, "too narrow"),
    "too high": ({"rate": FloatDistribution(1e-2, 1, log=True), "width": WIDTH}, "too narrow"),
    "too wide": ({"rate": FloatDistribution(1e-7, 1, log=True), "width": WIDTH}, "At most four"),
    "too many": (
        {"rate": RATE, "dropout": DROPOUT, "width": WIDTH, "batch": BATCH},
        "4 settings are searched",
    ),
    "too few": ({"rate": RATE}, "only the rate"),
}


@pytest.mark.parametrize("answer", RIGHT_SPACES.values(), ids=RIGHT_SPACES)
def test_a_good_space_passes(answer):
    assert hint("1", answer) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_SPACES.values(), ids=WRONG_SPACES)
def test_a_wrong_space_gets_its_own_hint(answer, word):
    assert word in hint("1", answer)


# --- 40.2, an honest report -----------------------------------------------------------------


def finished(trials):
    return [i for i, trial in enumerate(trials) if not trial.pruned]


def honest(trials):
    number = max(finished(trials), key=lambda i: trials[i].valid)
    return number, trials[number].test


def by_test(trials):
    number = max(finished(trials), key=lambda i: trials[i].test)
    return number, trials[number].test


def with_pruned(trials):
    number = max(range(len(trials)), key=lambda i: trials[i].valid)
    return number, trials[number].test


def validation(trials):
    number = honest(trials)[0]
    return number, trials[number].valid


def last_of_equals(trials):
    number = max(finished(trials), key=lambda i: (trials[i].valid, i))
    return number, trials[number].test


def ties_by_test(trials):
    number = max(finished(trials), key=lambda i: (trials[i].valid, trials[i].test))
    return number, trials[number].test


WRONG_REPORTS = {
    "by test": (by_test, "Validation chooses"),
    "validation": (validation, "too high"),
    "pruned": (with_pruned, "pruned"),
    "last of equals": (last_of_equals, "take the first"),
    "ties by test": (ties_by_test, "A tie goes to the first one"),
    "number alone": (lambda trials: honest(trials)[0], "two values"),
    "not done": (lambda trials: None, "returns nothing"),
    "dots": (lambda trials: ..., "returns nothing"),
    "something": (lambda trials: (0, 0), "not the winner's test score"),
    "a value": (79, "a function"),
}


def test_an_honest_report_passes():
    assert hint("2", honest) is None
    assert hint("2", lambda trials: list(honest(trials))) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_REPORTS.values(), ids=WRONG_REPORTS)
def test_a_wrong_report_gets_its_own_hint(answer, word):
    assert word in hint("2", answer)


def test_the_expected_reports_are_those_of_the_honest_rule():
    for trials, expected, wrong in SEARCHES:
        assert honest(trials) == expected and expected not in wrong
        assert all(isinstance(trial, Trial) for trial in trials)


# --- the head, the finder, the worker -------------------------------------------------------

SETTINGS = {"rate": 1e-2, "decay": 0.01, "dropout": 0.1, "width": 16, "batch": 8, "smoothing": 0.0}


@pytest.fixture(scope="module")
def data() -> Vectors:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    vectors = torch.randn(3, 5, generator=generator)[labels] * 2
    vectors += torch.randn(60, 5, generator=generator) * 0.5
    return Vectors(
        vectors[:30], labels[:30], vectors[30:45], labels[30:45], vectors[45:], labels[45:]
    )


def test_the_head_learns_an_epoch_at_a_time(data):
    scores = [right(head, data.test, data.test_labels) for head in train_head(data, SETTINGS, 8)]
    assert len(scores) == 8 and scores[-1] > 90


def test_the_same_seed_gives_the_same_head_whoever_looks(data):
    *_, undisturbed = train_head(data, SETTINGS, 3, seed=4)
    watched = train_head(data, SETTINGS, 3, seed=4)
    for _ in range(3):
        head = next(watched)
        torch.rand(7)  # another user of the same random numbers
    for a, b in zip(head.parameters(), undisturbed.parameters(), strict=True):
        assert torch.equal(a, b)
    *_, other = train_head(data, SETTINGS, 3, seed=5)
    assert not torch.equal(next(other.parameters()), next(head.parameters()))


def test_a_new_head_has_the_width_asked_for():
    assert new_head(SETTINGS, 5, 3, seed=0)(torch.zeros(2, 5)).shape == (2, 3)
    assert new_head({**SETTINGS, "width": 7}, 5, 3, seed=0)[0].out_features == 7


def test_right_counts_in_percent():
    labels = torch.tensor([0, 1, 1, 1])
    assert right(torch.nn.Identity(), torch.eye(2)[[0, 1, 0, 1]], labels) == 75


def test_steepest_finds_the_fall_and_not_the_rise():
    rates = np.logspace(-5, 0, 101)
    losses = 2 - 1.5 / (1 + np.exp(-6 * (np.log10(rates) + 2.5)))  # falls fastest at 10 ** -2.5
    losses[90:] += np.linspace(0, 30, 11)
    assert np.log10(steepest(rates, losses)) == pytest.approx(-2.5, abs=0.06)
    assert steepest([1e-3, 1e-2, 1e-1], [1.0, 2.0, 3.0]) == 1e-3  # only ever rises


@pytest.fixture
def plan(data, tmp_path):
    save_file(data._asdict(), tmp_path / "vectors.safetensors")
    space = {"rate": FloatDistribution(1e-3, 1e-1, log=True), "decay": FloatDistribution(0, 0.1)}
    space |= {"dropout": FloatDistribution(0, 0.5), "width": IntDistribution(4, 16)}
    space |= {"batch": CategoricalDistribution([8, 16]), "smoothing": FloatDistribution(0, 0.1)}
    settings = {
        "vectors": str(tmp_path / "vectors.safetensors"), "epochs": 2, "trials": 4, "seed": 0,
        "space": {name: distribution_to_json(one) for name, one in space.items()},
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(settings))
    return tmp_path / "plan.json"


def test_a_worker_fills_a_study_and_another_one_finds_nothing_left(plan, tmp_path):
    journal = tmp_path / "journal.log"
    work(journal, plan)
    trials = open_study(journal, 0).get_trials()
    assert len(trials) == 4 and all(0 <= trial.value <= 100 for trial in trials)
    assert len({trial.params["rate"] for trial in trials}) == 4
    work(journal, plan)
    assert len(open_study(journal, 0).get_trials()) == 4


@pytest.mark.slow
def test_a_worker_runs_as_a_process_and_says_nothing(plan, tmp_path):
    command = [sys.executable, "-m", "course_utils.lessons.lesson_40"]
    journal = str(tmp_path / "journal.log")
    done = subprocess.run([*command, journal, str(plan), "1"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(open_study(journal, 0).get_trials()) == 4
