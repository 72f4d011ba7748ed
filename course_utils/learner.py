"""How far the learner is: a table made from the journal, in a terminal and as a widget."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from course_utils import journal
from course_utils.errors import CourseError
from course_utils.notebooks import lessons
from course_utils.progress import in_notebook
from course_utils.questions import lesson_module
from course_utils.show import show


@dataclass(frozen=True)
class Standing:
    """One lesson: what is done of what there is."""

    lesson: str
    """Such as "11_fine_tuning_bert"."""
    predicted: int
    predictions: int
    answered: int
    right: int
    """Of the quiz, at the last try."""
    questions: int
    solved: int
    exercises: int
    claims: int
    """That held when the learner last measured them."""

    @property
    def begun(self) -> bool:
        return bool(self.predicted or self.answered or self.solved or self.claims)


def standing() -> list[Standing]:
    """All lessons in order."""
    found = journal.events()
    kinds = {kind: journal.latest(kind, found) for kind in journal.KINDS}
    result = []
    for lesson in lessons():
        module = lesson_module(lesson.number)
        mine = {
            kind: [e for id, e in latest.items() if id.partition(".")[0] == lesson.number]
            for kind, latest in kinds.items()
        }
        result.append(Standing(
            lesson.name,
            len(mine["prediction"]), len(module.PREDICTIONS),
            len(mine["quiz"]), sum(bool(e.get("right")) for e in mine["quiz"]), len(module.QUIZ),
            sum(e.get("state") == "right" for e in mine["exercise"]), len(module.EXERCISES),
            sum(bool(e.get("holds")) for e in mine["claim"]),
        ))  # fmt: skip
    return result


HEAD = ("lesson", "predicted", "quiz right", "exercises solved", "claims seen to hold")


def rows(all_lessons: Sequence[Standing]) -> list[tuple[str, ...]]:
    """The cells of the table, a row a lesson."""
    return [
        (
            one.lesson, f"{one.predicted} of {one.predictions}",
            f"{one.right} of {one.questions}", f"{one.solved} of {one.exercises}", str(one.claims),
        )
        for one in all_lessons
    ]  # fmt: skip


def as_text(all_lessons: Sequence[Standing]) -> str:
    """The table for a terminal, and what to do next."""
    table = [HEAD, *rows(all_lessons)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([*lines, "", next_step(all_lessons)])


def next_step(all_lessons: Sequence[Standing]) -> str:
    """What to do next: the first exercise that waits in a begun lesson, else a new lesson."""
    for one in all_lessons:
        if one.begun and one.solved < one.exercises:
            left = one.exercises - one.solved
            waits = "an exercise waits" if left == 1 else f"{left} exercises wait"
            return f"Next: in {one.lesson}, {waits}."
    for one in all_lessons:
        if not one.begun:
            return f"Next: {one.lesson}, in the folder notebooks."
    return "All exercises are solved."


def show_progress() -> None:
    """The table in a notebook, with a link to download the journal and a way to put it back.

    Where widgets do not render, the table alone.
    """
    now = standing()
    text, html = as_text(now), _as_html(now)
    if not in_notebook():
        show(text, html)
        return
    import ipywidgets
    from IPython.display import display

    table = ipywidgets.HTML(html + _download())
    upload = ipywidgets.FileUpload(
        accept=".jsonl", description="Restore from journal.jsonl",
        layout=ipywidgets.Layout(width="auto"),
    )  # fmt: skip
    answer = ipywidgets.HTML()

    def take_over(change: dict) -> None:
        if not change["new"]:
            return
        try:
            fresh = journal.restore(bytes(change["new"][0]["content"]))
            said = f"{fresh} events were new and are kept now."
        except CourseError as error:
            said = str(error)
        answer.value = f'<span role="status">{escape(said)}</span>'
        table.value = _as_html(standing()) + _download()

    upload.observe(take_over, names="value")
    box = ipywidgets.VBox([table, upload, answer])
    display({**box._repr_mimebundle_(), "text/plain": text, "text/html": html}, raw=True)


def _as_html(all_lessons: Sequence[Standing]) -> str:
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in HEAD)
    body = "".join(
        f"<tr><th scope='row' style='text-align:left'>{escape(first)}</th>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows(all_lessons)
    )  # fmt: skip
    return (
        f"<table><caption>Your progress</caption><tr>{head}</tr>{body}</table>"
        f"<p>{escape(next_step(all_lessons))}</p>"
    )


def _download() -> str:
    """A link that holds the whole journal, so that it works on every host."""
    path = journal.journal_file()
    if path is None or not path.is_file():
        return "<p>Nothing is kept yet.</p>"
    content = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<p><a download="journal.jsonl" href="data:application/x-ndjson;base64,{content}">'
        "Download your journal</a> (journal.jsonl). It stays on this machine otherwise.</p>"
    )
