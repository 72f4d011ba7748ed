"""Labs: dials in a live notebook, a table elsewhere (course_utils/labs.py)."""

import sys

from course_utils import labs

SLIDERS = {"a": (0.0, 2.0, 0.5), "b_c": (0.0, 1.0, 0.1)}
EXAMPLES = [{"a": 1.0, "b_c": 0.5}, {"a": 2.0, "b_c": 0.1}]


def added(a, b_c):
    return f"<{a + b_c:.1f}>"


def test_without_a_notebook_the_examples_are_printed(capsys):
    labs.lab("Add", added, SLIDERS, EXAMPLES)
    assert capsys.readouterr().out.splitlines() == [
        "Add", "  a 1, b c 0.5: <1.5>", "  a 2, b c 0.1: <2.1>"
    ]  # fmt: skip


def test_a_moved_dial_changes_the_answer(monkeypatch):
    shown = []
    monkeypatch.setattr(labs, "in_notebook", lambda: True)
    import IPython.display

    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: shown.append(bundle))
    import ipywidgets

    made = []
    original = ipywidgets.VBox
    monkeypatch.setattr(ipywidgets, "VBox", lambda parts: made.append(parts) or original(parts))
    labs.lab("Add", added, SLIDERS, EXAMPLES)
    _, first, second, answer = made[0]
    assert (first.value, second.value) == (1.0, 0.5) and "&lt;1.5&gt;" in answer.value
    first.value = 2.0
    assert "&lt;2.5&gt;" in answer.value
    assert "&lt;2.1&gt;" in shown[0]["text/html"] and "<2.1>" in shown[0]["text/plain"]
    assert "ipywidgets" in sys.modules
