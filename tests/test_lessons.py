"""What lessons ask: right answers pass, typical wrong ones and nonsense get a hint."""

import pytest
import torch

from course_utils import recipes
from course_utils.notebooks import lessons
from course_utils.questions import Prediction, lesson_module
from course_utils.tasks import load_task

NONSENSE = [None, "banana", -1, float("nan"), [], {}, len, True]


@pytest.fixture(scope="module")
def reviews():
    return load_task("reviews")


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
def test_every_lesson_has_predictions_exercises_and_three_quiz_questions(lesson):
    module = lesson_module(lesson.number)
    source = lesson.source.read_text(encoding="utf-8")
    assert len(module.QUIZ) == 3
    for number, prediction in module.PREDICTIONS.items():
        assert isinstance(prediction, Prediction)
        assert f'predict("{lesson.number}.{number}")' in source
    for number in module.EXERCISES:
        assert f'check("{lesson.number}.{number}"' in source


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
@pytest.mark.parametrize("answer", NONSENSE, ids=str)
def test_nonsense_gets_a_hint(lesson, answer):
    for test in lesson_module(lesson.number).EXERCISES.values():
        try:
            hint = test(answer)
        except Exception:  # check() turns it into a hint
            continue
        assert isinstance(hint, str) and len(hint) > 20


@pytest.mark.parametrize("lesson", lessons(), ids=lambda lesson: lesson.number)
def test_quiz_explains_every_choice(lesson):
    for question in lesson_module(lesson.number).QUIZ:
        for option in question.options:
            assert len(option.explanation) > 15


def hint(id: str, answer: object) -> str | None:
    lesson, _, number = id.partition(".")
    return lesson_module(lesson).EXERCISES[number](answer)


def test_lesson_00_share_of_trained_weights():
    assert hint("00.1", 0.157) is None
    assert "percent" in hint("00.1", 15.7)
    assert "divide" in hint("00.1", 3_554_319)
    assert "small" in hint("00.1", 0.001)
    assert "large" in hint("00.1", 0.9)


def test_lesson_00_swapped_task(reviews):
    assert hint("00.2", reviews.limited(train=200, valid=100, test=100)) is None
    assert "200" in hint("00.2", reviews)
    assert "tickets" in hint("00.2", load_task("tickets"))


def test_lesson_11_rescued_recipe():
    assert hint("11.1", recipes.full_finetuning(learning_rate=3e-4)) is None
    assert "range" in hint("11.1", recipes.full_finetuning(learning_rate=3e-2))
    assert "hardly" in hint("11.1", recipes.full_finetuning(learning_rate=1e-7))
    assert "head" in hint("11.1", recipes.full_finetuning(head_learning_rate=0.5))
    assert "freezing" in hint("11.1", recipes.linear_probe())


def test_lesson_11_choice_of_rate():
    assert hint("11.2", "right") is None
    assert "learnt" in hint("11.2", "too low")
    assert "both" in hint("11.2", "too high")


def only_the_head(model):
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
    return model


def test_lesson_20_frozen_body():
    assert hint("20.1", lambda model: only_the_head(model).eval()) is None
    assert "buffers" in hint("20.1", only_the_head)
    assert "weights of the body moved" in hint("20.1", lambda model: model.eval())
    assert "head is frozen too" in hint("20.1", lambda m: m.requires_grad_(False).eval())

    def statistics_of_the_batch(model):
        for module in only_the_head(model).modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.track_running_stats = False

    assert "others in its batch" in hint("20.1", statistics_of_the_batch)


def test_lesson_20_recipe_within_the_budget():
    assert hint("20.2", recipes.top_stages("layer3")) is None
    assert hint("20.2", recipes.top_stages(-4)) is None
    assert "budget is 6" in hint("20.2", recipes.full_finetuning())
    assert "freeze more" in hint("20.2", recipes.top_stages("layer2"))
    assert "room" in hint("20.2", recipes.top_stages("layer4"))
    assert "room" in hint("20.2", recipes.linear_probe())
    assert "gradual" in hint("20.2", recipes.gradual_unfreezing())
