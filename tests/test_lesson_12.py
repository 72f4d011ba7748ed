"""Lesson 12: right answers pass, each typical wrong one gets its own hint."""

import math
from dataclasses import replace

import numpy as np
import pytest

from course_utils import recipes
from course_utils.lessons.lesson_12 import CASES, WEIGHTS, planned_rates, stand_in
from course_utils.models import load_text_model
from course_utils.questions import lesson_module
from course_utils.stage import stages


def hint(number: str, answer: object) -> str | None:
    return lesson_module("12").EXERCISES[number](answer)


# --- 12.1, a schedule under a budget --------------------------------------------------------

GOOD = recipes.gradual_unfreezing(epochs=4, stage_decay=0.6, learning_rate=5e-4)

RIGHT_RECIPES = {
    "one layer an epoch": GOOD,
    "the ULMFiT factor": replace(GOOD, stage_decay=1 / 2.6),
    "from the pool": replace(GOOD, train_from=-2),
    "head by name": replace(GOOD, train_from="head"),
}
WRONG_RECIPES = {
    "no recipe": (5e-4, "a recipe is asked for"),
    "full": (recipes.full_finetuning(), "embeddings moves already"),
    "discriminative": (recipes.discriminative(), "embeddings moves already"),
    "last three layers": (recipes.top_stages("layer3"), "layer3 moves already"),
    "begins with a layer": (replace(GOOD, train_from="layer5"), "layer5 moves already"),
    "head only": (recipes.linear_probe(), "unfreeze_every"),
    "too deep": (replace(GOOD, epochs=5), "from layer2 on is open, 7,098,626 weights"),
    "far too deep": (replace(GOOD, epochs=8), "embeddings"),
    "too shallow": (replace(GOOD, epochs=3), "room for more"),
    "never opened": (replace(GOOD, unfreeze_every=4), "from head on is open, 770 weights"),
    "too slow": (replace(GOOD, epochs=8, unfreeze_every=2), "at most 6"),
    "one rate for all": (replace(GOOD, stage_decay=1.0), "at most 50%"),
    "too steep": (replace(GOOD, stage_decay=0.1), "does not move"),
    "too high": (replace(GOOD, learning_rate=5e-3), "destroyed"),
    "too low": (replace(GOOD, learning_rate=1e-6), "hardly anything"),
    "head like the rest": (replace(GOOD, head_learning_rate=None), "head_learning_rate"),
    "no warm-up": (replace(GOOD, warmup=0.0), "slanted triangle"),
    "cosine": (replace(GOOD, schedule="cosine"), "slanted triangle"),
    "constant": (replace(GOOD, schedule="constant"), "slanted triangle"),
}


@pytest.mark.parametrize("answer", RIGHT_RECIPES.values(), ids=RIGHT_RECIPES)
def test_a_schedule_within_the_budget_passes(answer):
    assert hint("1", answer) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_RECIPES.values(), ids=WRONG_RECIPES)
def test_a_wrong_schedule_gets_its_own_hint(answer, word):
    assert word in hint("1", answer)


def test_the_stand_in_has_the_stages_and_weights_of_the_encoder():
    parts = stages(load_text_model("minilm", 2))
    assert {part.name: part.num_weights for part in parts} == WEIGHTS
    assert [part.name for part in stand_in()] == list(WEIGHTS)
    assert all(bool(part.parameters) == bool(WEIGHTS[part.name]) for part in stand_in())


# --- 12.2, is it real? ----------------------------------------------------------------------


def differences(a, b):
    return np.array(b) - np.array(a)


def t_interval(d):
    half = 2.36 * d.std(ddof=1) / len(d) ** 0.5
    return d.mean() - half, d.mean() + half


def outside(low, high):
    return bool(low > 0 or high < 0)


def bootstrap(d):
    draw = np.random.default_rng(0)
    means = [d[draw.integers(len(d), size=len(d))].mean() for _ in range(2000)]
    return np.quantile(means, [0.025, 0.975])


RIGHT_DECISIONS = {
    "bootstrap": lambda a, b: outside(*bootstrap(differences(a, b))),
    "t interval": lambda a, b: outside(*t_interval(differences(a, b))),
    "numpy's bool": lambda a, b: np.abs(np.mean(np.sign(differences(a, b)))) > 0.9,
}
WRONG_DECISIONS = {
    "higher mean": (lambda a, b: sum(b) > sum(a), "higher mean"),
    "separate ranges": (lambda a, b: min(b) > max(a) or min(a) > max(b), "seed by seed"),
    "only b can win": (lambda a, b: bool(bootstrap(differences(a, b))[0] > 0), "either direction"),
    "at least a point": (
        lambda a, b: (
            outside(*t_interval(differences(a, b))) and abs(np.mean(differences(a, b))) >= 1
        ),
        "small is not the same",
    ),
    "more than two points": (
        lambda a, b: abs(differences(a, b).mean()) > 2,
        "one seed in which a failed",
    ),
    "always": (lambda a, b: True, "wins with some seeds"),
    "never": (lambda a, b: False, "as clear as it gets"),
    "the interval": (lambda a, b: bootstrap(differences(a, b)), "True or False"),
    "not done": (lambda a, b: None, "returns nothing"),
    "a value": (True, "function"),
}


@pytest.mark.parametrize("answer", RIGHT_DECISIONS.values(), ids=RIGHT_DECISIONS)
def test_a_paired_decision_passes_however_it_is_made(answer):
    assert hint("2", answer) is None


@pytest.mark.parametrize(("answer", "word"), WRONG_DECISIONS.values(), ids=WRONG_DECISIONS)
def test_a_wrong_decision_gets_its_own_hint(answer, word):
    assert word in hint("2", answer)


def test_equal_lists_have_no_real_difference():
    def differ_at_all(a, b):
        return outside(*t_interval(differences(a, b))) or a == b

    assert "equal" in hint("2", differ_at_all)
    assert all(len(a) == len(b) for a, b, *_ in CASES)


# --- the plan of a recipe -------------------------------------------------------------------


def test_planned_rates_show_when_each_stage_is_opened():
    recipe = replace(GOOD, epochs=3, warmup=0.1)
    times, rates = planned_rates(stand_in(), recipe, points=300)
    assert list(rates) == ["layer4", "layer5", "head"]
    opened = [next(t for t, r in zip(times, line, strict=True) if not math.isnan(r))
              for line in rates.values()]  # fmt: skip
    assert opened == pytest.approx([2.0, 1.0, 0.0])
    peak = max(rates["head"])
    assert peak == pytest.approx(recipe.head_learning_rate)
    assert times[rates["head"].index(peak)] == pytest.approx(0.3)
    assert rates["layer4"][-1] == pytest.approx(0.6 * rates["layer5"][-1])


def test_the_boundary_lab_counts_weights_and_passes():
    from course_utils.lessons.lesson_12 import cost_from

    weights = {"embeddings": 100, "layer0": 10, "layer1": 10, "head": 0}
    assert "120 of 120 weights" in cost_from(weights, 0, 3)
    assert "100%" in cost_from(weights, 0, 3) and "100%" in cost_from(weights, 1, 3)
    # one forward pass of layer0 beside three passes in each of three epochs of layer1
    assert f"{(10 + 90) / 180:.0%}" in cost_from(weights, 2, 3)
    assert "from head on: 0 of 120" in cost_from(weights, 3, 3)
