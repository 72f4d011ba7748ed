"""Tests of predictions, exercises and quizzes (course_utils/questions.py)."""

import sys
import types
from html import unescape

import pytest

import course_utils.lessons
from course_utils import questions
from course_utils.errors import CourseError
from course_utils.notebooks import lessons
from course_utils.questions import (
    CHECK_MIME,
    Option,
    Prediction,
    Question,
    check,
    lesson_module,
    number_between,
    predict,
    quiz,
)

QUESTION = Question(
    "Is 1 < 2 & why?",
    (
        Option("yes", "One comes before two.", right=True),
        Option("no", "Count again."),
        Option("<b>both</b>", "It cannot be both."),
    ),
)


def half(answer):
    """A check that fails on what is no number."""
    return None if answer / 2 == 2 else "halve it and look again"


@pytest.fixture(autouse=True)
def lesson_77(monkeypatch):
    module = types.ModuleType("course_utils.lessons.lesson_77")
    module.PREDICTIONS = {"1": Prediction("Which is <larger>?", ("the first", "the second"))}
    module.EXERCISES = {
        "1": half,
        "2": number_between(0.1, 0.3, "too small: divide again", "too large: is it percent?"),
    }
    module.QUIZ = (QUESTION,)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def shown(monkeypatch) -> list:
    calls = []
    monkeypatch.setattr(
        questions, "show", lambda text, html=None, records=None: calls.append((text, html, records))
    )
    return calls


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        (4, "right", "right!"),
        (5, "wrong", "halve it and look again"),
        (..., "open", "not attempted yet"),
        ("four", "wrong", r"could not be checked (TypeError"),
        (None, "wrong", "what kind of value the exercise asks for"),
        ([4], "wrong", "could not be checked"),
    ],
)
def test_every_answer_gets_a_hint_and_none_raises(shown, answer, state, says):
    check("77.1", answer)
    (text, html, records) = shown[0]
    assert text.startswith("Exercise 77.1: ") and says in text
    assert text in unescape(html)
    assert records == {CHECK_MIME: {"id": "77.1", "state": state}}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (0.2, "right!"),
        (0.1, "right!"),
        (0.05, "too small: divide again"),
        (20, "too large: is it percent?"),
        (True, "a number is asked for, and this is True"),
        ("0.2", "a number is asked for, and this is '0.2'"),
    ],
)
def test_a_number_gets_a_hint_for_each_side(shown, answer, says):
    check("77.2", answer)
    assert shown[0][0] == f"Exercise 77.2: {says}"


def test_not_a_number_is_never_right(shown):
    check("77.2", float("nan"))
    assert "right!" not in shown[0][0]


@pytest.mark.parametrize("right", [(), (0, 1)])
def test_a_question_has_exactly_one_right_option(right):
    options = tuple(Option(f"option {i}", "because", right=i in right) for i in range(3))
    with pytest.raises(CourseError, match="'Which\\?' needs exactly one right option"):
        Question("Which?", options)


def test_each_choice_is_answered_with_its_own_explanation():
    answers = [QUESTION.answer(i) for i in range(3)]
    assert answers[0] == "Right. One comes before two."
    assert answers[1] == "Not quite. Count again."
    assert len(set(answers)) == 3


def test_the_static_quiz_holds_question_options_and_explanations(shown):
    quiz("77")
    (plain, html, _) = shown[0]
    for text in (QUESTION.text, *(option.text for option in QUESTION.options)):
        assert text in plain and text in unescape(html)
    for i in range(3):
        assert QUESTION.answer(i) in unescape(html)
        assert QUESTION.options[i].explanation not in plain, "the plain form gives the answer away"
    assert "<b>both</b>" not in html, "what an option says is text, not HTML"


def test_the_static_prediction_holds_question_and_options(shown):
    predict("77.1")
    (plain, html, _) = shown[0]
    for text in ("Which is <larger>?", "the first", "the second"):
        assert text in plain and text in unescape(html)
    assert "<larger>" not in html


def test_in_a_notebook_a_widget_answers_and_the_static_form_travels_along(monkeypatch):
    import IPython.display
    import ipywidgets

    bundles, boxes = [], []
    real_box = ipywidgets.VBox
    monkeypatch.setattr(questions, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle))
    monkeypatch.setattr(ipywidgets, "VBox", lambda parts: boxes.append(parts) or real_box(parts))
    quiz("77")
    assert QUESTION.text in bundles[0]["text/plain"]
    assert "One comes before two." in bundles[0]["text/html"]
    _, buttons, answer = boxes[0]
    assert answer.value == "", "an answer is shown before the choice"
    buttons.value = 1
    assert "Not quite. Count again." in answer.value
    buttons.value = 0
    assert "Right. One comes before two." in answer.value


@pytest.mark.parametrize("lesson", ["1", "abc", "111", "../x", ""])
def test_a_lesson_is_named_by_two_digits(lesson):
    with pytest.raises(CourseError, match="named by two digits such as '11'"):
        lesson_module(lesson)


def test_unknown_questions_are_named_with_those_that_exist():
    with pytest.raises(CourseError, match="lesson 98 has no questions"):
        quiz("98")
    with pytest.raises(CourseError, match="no '77.9' among the exercises; there are 77.1, 77.2"):
        check("77.9", 1)
    with pytest.raises(CourseError, match="no '77.3' among the predictions; there are 77.1"):
        predict("77.3")


@pytest.mark.skipif(not lessons(), reason="there is no lesson in notebooks/src yet")
def test_every_lesson_has_predictions_exercises_and_a_quiz_of_three():
    for lesson in lessons():
        module = lesson_module(lesson.number)
        assert module.__file__.startswith(next(iter(course_utils.lessons.__path__)))
        assert module.PREDICTIONS and module.EXERCISES, lesson.name
        assert len(module.QUIZ) >= 3, lesson.name
        for question in module.QUIZ:
            assert len(question.options) >= 3, question.text
            explanations = [option.explanation.strip() for option in question.options]
            assert all(explanations) and len(set(explanations)) == len(explanations)
        source = lesson.source.read_text(encoding="utf-8")
        for kind, function in (("PREDICTIONS", "predict"), ("EXERCISES", "check")):
            for number in getattr(module, kind):
                assert f'{function}("{lesson.number}.{number}"' in source, "never asked"


@pytest.mark.skipif(not lessons(), reason="there is no lesson in notebooks/src yet")
def test_no_exercise_of_a_lesson_accepts_or_trips_over_nonsense(shown):
    for lesson in lessons():
        for number in lesson_module(lesson.number).EXERCISES:
            for nonsense in (None, "", "nonsense", -1e12, float("nan"), [], {}, object()):
                check(f"{lesson.number}.{number}", nonsense)
                assert shown[-1][2][CHECK_MIME]["state"] == "wrong"
