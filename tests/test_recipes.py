"""Tests of recipes (course_utils/recipes.py)."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import recipes
from course_utils.errors import CourseError
from course_utils.recipes import Recipe

quick = settings(deadline=None, max_examples=40)

CONTRADICTIONS = [
    {"epochs": 0},
    {"epochs": -1},
    {"epochs": 2.5},
    {"batch_size": 0},
    {"learning_rate": 0.0},
    {"learning_rate": -1e-3},
    {"learning_rate": math.nan},
    {"head_learning_rate": 0.0},
    {"head_learning_rate": -1.0},
    {"stage_decay": 0.0},
    {"stage_decay": 1.5},
    {"unfreeze_every": -1},
    {"optimizer": "adam"},
    {"weight_decay": -0.1},
    {"schedule": "step"},
    {"warmup": 1.0},
    {"warmup": -0.1},
    {"label_smoothing": 1.0},
    {"label_smoothing": -0.1},
    {"max_grad_norm": -1.0},
    {"accumulate": 0},
    {"accumulate": 17},
    {"patience": -1},
    {"precision": "fp8"},
    {"validate": False, "patience": 1},
    {"validate": False, "keep_best": True},
]
FACTORIES = [
    recipes.linear_probe, recipes.full_finetuning, lambda **k: recipes.top_stages("layer1", **k),
    recipes.discriminative, recipes.gradual_unfreezing, recipes.from_scratch,
]  # fmt: skip


@pytest.mark.parametrize("fields", CONTRADICTIONS, ids=str)
def test_a_contradiction_names_the_recipe_the_field_and_its_value(fields):
    field, value = next(iter(fields.items()))
    with pytest.raises(CourseError) as error:
        Recipe("mine", **fields)
    assert str(error.value).startswith(f"recipe 'mine': {field} is {value!r}; it must be ")


@pytest.mark.parametrize(
    "fields, allowed",
    [
        ({"optimizer": "adam"}, "'adamw', 'sgd'"),
        ({"schedule": "step"}, "'linear', 'cosine', 'constant'"),
        ({"precision": "fp8"}, "'auto', 'fp32', 'bf16'"),
    ],
)
def test_a_wrong_choice_lists_the_right_ones(fields, allowed):
    with pytest.raises(CourseError, match=allowed):
        Recipe("mine", **fields)


@pytest.mark.parametrize("make", FACTORIES)
def test_a_named_recipe_is_valid_and_can_be_changed(make):
    recipe = make(epochs=7, learning_rate=0.5, name="other")
    assert (recipe.epochs, recipe.learning_rate, recipe.name) == (7, 0.5, "other")
    assert make() == make()


def test_names_differ_so_that_a_table_can_tell_recipes_apart():
    names = [make().name for make in FACTORIES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("make", FACTORIES)
def test_a_changed_recipe_is_checked_again(make):
    with pytest.raises(CourseError, match="stage_decay"):
        make(stage_decay=2.0)
    with pytest.raises(CourseError, match="stage_decay"):
        dataclasses.replace(make(), stage_decay=2.0)


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe("mine").epochs = 5


def test_a_misspelt_field_is_an_error():
    with pytest.raises(TypeError, match="learning_rat"):
        recipes.full_finetuning(learning_rat=1e-3)


def test_what_each_recipe_trains():
    assert recipes.linear_probe().train_from == -1
    assert recipes.full_finetuning().train_from == 0
    assert recipes.top_stages("layer3").train_from == "layer3"
    assert recipes.discriminative().stage_decay < 1
    gradual = recipes.gradual_unfreezing()
    assert (gradual.train_from, gradual.unfreeze_every) == (-1, 1)


@quick
@given(batch_size=st.integers(1, 64), accumulate=st.integers(-2, 70))
def test_no_more_micro_batches_than_examples(batch_size, accumulate):
    if 1 <= accumulate <= batch_size:
        assert Recipe("mine", batch_size=batch_size, accumulate=accumulate).accumulate == accumulate
    else:
        with pytest.raises(CourseError, match="accumulate"):
            Recipe("mine", batch_size=batch_size, accumulate=accumulate)
