"""Questions to the learner: predict before the code runs, check an exercise, take the quiz.

The texts live in `course_utils.lessons`, one module a lesson, so that no answer stands in the
notebook. Each question has a widget, and a static form where widgets do not render.
"""

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from types import ModuleType

from course_utils import journal
from course_utils.errors import CourseError
from course_utils.progress import in_notebook
from course_utils.show import show

CHECK_MIME = "application/vnd.finetuning-course.check+json"


@dataclass(frozen=True)
class Option:
    """One possible answer and what to say to somebody who chose it."""

    text: str
    explanation: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A multiple-choice question with exactly one right option."""

    text: str
    options: tuple[Option, ...]

    def __post_init__(self) -> None:
        if sum(option.right for option in self.options) != 1:
            raise CourseError(f"the question {self.text!r} needs exactly one right option")

    def answer(self, choice: int) -> str:
        """What to say to somebody who chose this option, counted from 0."""
        option = self.options[choice]
        return f"{'Right.' if option.right else 'Not quite.'} {option.explanation}"


@dataclass(frozen=True)
class Prediction:
    """A question that the lesson answers by a measurement."""

    text: str
    options: tuple[str, ...]


# An exercise's check: the answer in, a hint out, or None if the answer is right.
Check = Callable[[object], str | None]


def lesson_module(lesson: str) -> ModuleType:
    """The module with a lesson's questions, such as "11"."""
    if not re.fullmatch(r"\d\d", lesson):
        raise CourseError(f"a lesson is named by two digits such as '11', not {lesson!r}")
    try:
        return importlib.import_module(f"course_utils.lessons.lesson_{lesson}")
    except ModuleNotFoundError as error:
        raise CourseError(f"lesson {lesson} has no questions") from error


def _find(kind: str, id: str):
    lesson, _, number = id.partition(".")
    table = getattr(lesson_module(lesson), kind)
    if number not in table:
        known = ", ".join(f"{lesson}.{n}" for n in table)
        raise CourseError(f"there is no {id!r} among the {kind.lower()}; there are {known}")
    return table[number]


def predict(id: str) -> None:
    """Ask for a prediction before the code runs; nothing is right or wrong yet."""
    prediction: Prediction = _find("PREDICTIONS", id)
    items = "".join(f"<li>{escape(option)}</li>" for option in prediction.options)
    html = f"<b>Predict.</b> {escape(prediction.text)}<ul>{items}</ul>"
    plain = "\n".join([f"Predict. {prediction.text}", *(f"  - {o}" for o in prediction.options)])
    _show_choices(
        f"<b>Predict.</b> {escape(prediction.text)}",
        prediction.options,
        lambda choice: f"You predict: {prediction.options[choice]}. Run on and see.",
        plain,
        html,
        lambda choice: journal.note("prediction", id, choice=prediction.options[choice]),
    )


def quiz(lesson: str) -> None:
    """Show a lesson's closing questions, with an explanation for every choice."""
    for number, question in enumerate(lesson_module(lesson).QUIZ, 1):
        title = f"<b>Question {number}.</b> {escape(question.text)}"
        items = "".join(
            f"<li><details><summary>{escape(option.text)}</summary>"
            f"{escape(question.answer(i))}</details></li>"
            for i, option in enumerate(question.options)
        )
        plain = "\n".join(
            [f"Question {number}. {question.text}", *(f"  - {o.text}" for o in question.options)]
        )
        _show_choices(
            title, [o.text for o in question.options], question.answer, plain,
            f"{title}<ul>{items}</ul>", partial(_note_answer, f"{lesson}.{number}", question),
        )  # fmt: skip


def _note_answer(id: str, question: Question, choice: int) -> None:
    option = question.options[choice]
    journal.note("quiz", id, choice=option.text, right=option.right)


def check(id: str, answer: object) -> None:
    """Check an exercise's answer and say what to do next.

    Args:
        id: lesson and number, such as "11.1".
        answer: what you worked out; `...` means not yet.

    A wrong answer never raises, so the notebook runs on.
    """
    test: Check = _find("EXERCISES", id)
    if answer is ...:
        state, message = "open", "not attempted yet: replace the ... above and run this cell again"
    else:
        try:
            hint = test(answer)
        except Exception as error:  # whatever a learner hands in must get a hint, not a traceback
            hint = f"the answer could not be checked ({type(error).__name__}: {error}); look at "
            hint += "what kind of value the exercise asks for"
        state, message = ("right", "right!") if hint is None else ("wrong", hint)
    mark, colour = {"open": ("○", "#555"), "right": ("✓", "#0a6b3d"), "wrong": ("→", "#8a4b00")}[
        state
    ]
    text = f"Exercise {id}: {message}"
    html = (
        f'<div role="status" style="border-left:4px solid {colour};padding:.3em .8em">'
        f"<b>{mark}</b> {escape(text)}</div>"
    )
    show(text, html, {CHECK_MIME: {"id": id, "state": state}})
    if state != "open":
        journal.note("exercise", id, state=state)


def number_between(low: float, high: float, too_low: str, too_high: str) -> Check:
    """A check for a number, with a hint for each side."""

    def test(answer: object) -> str | None:
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            return f"a number is asked for, and this is {answer!r}"
        if not low <= answer <= high:
            return too_low if answer < low else too_high
        return None

    return test


def _show_choices(
    title: str, options: Sequence[str], reply: Callable[[int], str], plain: str, static: str,
    chosen: Callable[[int], None],
) -> None:  # fmt: skip
    """A radio-button widget in a live notebook; its static form elsewhere."""
    if not in_notebook():
        show(plain, static)
        return
    import ipywidgets
    from IPython.display import display

    buttons = ipywidgets.RadioButtons(
        options=[(text, i) for i, text in enumerate(options)], index=None,
        layout=ipywidgets.Layout(width="auto"),
    )  # fmt: skip
    answer = ipywidgets.HTML()

    def respond(change: dict) -> None:
        answer.value = f'<span role="status">{escape(reply(change["new"]))}</span>'
        chosen(change["new"])

    buttons.observe(respond, names="value")
    box = ipywidgets.VBox([ipywidgets.HTML(title), buttons, answer])
    bundle = box._repr_mimebundle_()
    display({**bundle, "text/plain": plain, "text/html": static}, raw=True)
