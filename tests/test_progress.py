"""The progress line: a bar and a live plot in a notebook, a line elsewhere, nothing if silent."""

import math
import re

import pytest
from conftest import tiny_bert, tiny_text_task
from hypothesis import given
from hypothesis import strategies as st

from course_utils import progress, recipes
from course_utils.progress import HEIGHT, WIDTH, Progress, live_plot
from course_utils.train import fit

FINITE = st.floats(-1e6, 1e6)


@given(
    values=st.lists(st.one_of(FINITE, st.just(math.nan), st.just(math.inf)), max_size=30),
    total=st.integers(1, 40),
)
def test_the_live_plot_stays_in_its_frame_whatever_the_values(values, total):
    points = [(min(i, total), value) for i, value in enumerate(values)]
    drawn = live_plot({"loss": points}, total)
    finite = [value for value in values if math.isfinite(value)]
    assert bool(drawn) == (len(finite) >= 2)
    for places in re.findall(r'points="([^"]*)"', drawn):
        pairs = [tuple(map(float, place.split(","))) for place in places.split()]
        assert len(pairs) == len(finite)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in pairs)


def test_the_live_plot_has_words_and_shows_a_fall_as_a_fall():
    drawn = live_plot({"loss <a>": [(1, 0.9), (2, 0.3)], "other": [(2, 0.5)]}, 4)
    assert 'aria-label="loss &lt;a&gt; 0.9 to 0.3; other 0.5 to 0.5"' in drawn
    (_, before), (_, after) = (
        map(float, place.split(",")) for place in re.search('points="([^"]*)"', drawn)[1].split()
    )
    assert after > before, "down on the screen is a larger y"
    assert drawn.count("<circle") == 2


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """What a notebook would show, newest last."""
    import IPython.display

    bundles: list[dict] = []

    class Handle:
        def display(self, bundle, raw):
            bundles.append(bundle)

        update = display

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(IPython.display, "DisplayHandle", Handle)
    return bundles


def test_in_a_notebook_fit_draws_both_losses(shown):
    fit(tiny_bert(), tiny_text_task(), recipes.full_finetuning(epochs=3, precision="fp32"))
    last = shown[-1]
    assert "training loss" in last["text/html"] and "validation loss" in last["text/html"]
    assert re.search(r"(\d+)/\1 .*loss [\d.]+, validation [\d.]+$", last["text/plain"])


def test_silence_is_silence(shown, capsys):
    fit(tiny_bert(), tiny_text_task(), recipes.full_finetuning(epochs=1, precision="fp32"),
        silent=True)  # fmt: skip
    assert shown == [] and capsys.readouterr() == ("", "")


def test_without_a_screen_one_line_is_printed_at_the_end(capsys):
    bar = Progress(3, "work")
    for done in range(1, 4):
        bar.update(done, f"at {done}")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and re.match(r"work: 3/3 \(0 s\) at 3\n", printed)
