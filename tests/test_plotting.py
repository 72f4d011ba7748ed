"""Tests of figures and tables (course_utils/plotting.py)."""

import base64
import io
import re
from html import unescape

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from course_utils import plotting
from course_utils.errors import CourseError
from course_utils.history import Epoch, History
from course_utils.plotting import (
    PALETTE,
    describe,
    new_axes,
    plot_bars,
    plot_confusion,
    plot_history,
    plot_images,
    plot_lines,
    show_table,
)

ALT = 'Two bars: "tuned" reaches 0.9 & frozen 0.7.'


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch) -> list:
    calls = []
    monkeypatch.setattr(plotting, "show", lambda text, html=None: calls.append((text, html)))
    return calls


def test_a_figure_is_shown_with_its_alternative_text_and_closed(shown):
    axes = new_axes()
    describe(axes, ALT)
    (text, html) = shown[0]
    assert text == f"[Figure: {ALT}]"
    assert unescape(re.search(r'alt="([^"]*)"', html).group(1)) == ALT
    png = base64.b64decode(re.search(r"base64,([^\"]+)", html).group(1))
    assert min(Image.open(io.BytesIO(png)).size) > 200
    assert not plt.fignum_exists(axes.get_figure().number)


@pytest.mark.parametrize("alt", ["", "a chart", " " * 60])
def test_without_alternative_text_there_is_no_figure(shown, alt):
    with pytest.raises(CourseError, match="too short: say what is drawn and what it shows"):
        describe(new_axes(), alt)
    assert shown == []


def test_bars_show_the_median_and_the_range():
    axes = plot_bars({"frozen": [0.5, 0.9, 0.6], "tuned": 0.8}, "accuracy (share)", chance=0.25)
    assert isinstance(axes, Axes)
    assert [bar.get_width() for bar in axes.patches] == [0.6, 0.8]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["frozen", "tuned"]
    assert axes.get_xlabel() == "accuracy (share)"
    assert {text.get_text() for text in axes.texts} == {"0.6", "0.8"}
    (bars,) = [part for part in axes.collections if len(part.get_segments()) == 2]
    assert np.allclose(bars.get_segments()[0][:, 0], [0.5, 0.9])
    assert axes.get_legend() is not None, "the line of guessing is named"


def test_lines_show_medians_bands_and_labels():
    points = {"few": [[1, 3, 2], [4, 4, 5]], "many": [7, 8]}
    axes = plot_lines([10, 100], points, "labels", "accuracy (share)", log_x=True)
    assert [list(line.get_ydata()) for line in axes.lines] == [[2, 4], [7, 8]]
    assert len(axes.collections) == 1, "only the line of several runs has a band"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labels", "accuracy (share)")
    assert axes.get_xscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["few", "many"]
    assert len({line.get_marker() for line in axes.lines}) == 2, "told apart without colour"
    assert [to_hex(line.get_color()).upper() for line in axes.lines] == list(PALETTE[:2])


def test_a_history_is_one_line_a_run_over_its_epochs():
    epochs = [Epoch(n, 1 / n, 2 / n, 0.1 * n, 1.0, "head") for n in (1, 2, 3)]
    runs = [History("full fine-tuning", epochs), History("linear probe", epochs[:2])]
    axes = plot_history(runs)
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2, 3], [1, 2]]
    assert np.allclose(axes.lines[0].get_ydata(), [0.1, 0.2, 0.3])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "valid accuracy")
    losses = plot_history(runs[0], "valid_loss")
    assert losses.get_ylabel() == "valid loss (nats)" and len(losses.lines) == 1


def test_images_stand_in_a_grid_with_titles_and_boxes():
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    boxes = torch.full((5, 4), float("nan"))
    boxes[2] = torch.tensor([1.0, 2.0, 6.0, 7.0])
    figure = plot_images(images, [f"picture {i}" for i in range(5)], columns=3, boxes=boxes)
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes] == [*(f"picture {i}" for i in range(5)), ""]
    assert [len(axes.patches) for axes in figure.axes] == [0, 0, 1, 0, 0, 0]
    (box,) = figure.axes[2].patches
    assert (box.get_width(), box.get_height()) == (5, 5)
    drawn = torch.from_numpy(np.asarray(figure.axes[4].images[0].get_array()))
    assert torch.equal(drawn, images[4].permute(1, 2, 0))


def test_each_image_needs_a_title():
    with pytest.raises(ValueError, match="shorter"):
        plot_images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["only one"])


def test_a_confusion_matrix_shows_its_counts_and_shares():
    counts = torch.tensor([[8, 2, 0], [0, 0, 0], [1, 0, 3]])
    axes = plot_confusion(counts, ["a", "b", "c"])
    drawn = {text.get_position(): text.get_text() for text in axes.texts}
    assert drawn == {(0, 0): "8", (1, 0): "2", (0, 2): "1", (2, 2): "3"}
    shares = np.asarray(axes.images[0].get_array())
    assert np.allclose(shares.sum(1), [1, 0, 1]), "a class without examples is no division by 0"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]


def test_a_table_has_a_caption_headers_and_three_digits(shown):
    rows = [
        {"method": "frozen <head>", "accuracy": 0.71234, "weights": 5775},
        {"method": "tuned", "accuracy": 0.9, "weights": 22_700_000},
    ]
    show_table(rows, "Accuracy & size")
    (text, html) = shown[0]
    assert text.splitlines()[0] == "Accuracy & size"
    assert "0.712" in text and "22,700,000" in text
    columns = {line.index("0.") for line in text.splitlines()[2:]}
    assert len(columns) == 1, "the columns of the plain form are aligned"
    assert "<caption>Accuracy &amp; size</caption>" in html
    assert html.count('<th scope="col"') == 3 and html.count("<tr>") == 3
    assert "frozen &lt;head&gt;" in html and "<head>" not in html


def test_the_palette_can_be_told_apart_in_grey():
    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    grey = [luminance(colour) for colour in PALETTE]
    assert len(set(PALETTE)) == len(PALETTE) == 7
    assert max(grey) < 0.75, "too pale on white"
    assert len(plotting.MARKERS) == len(set(plotting.MARKERS)) == 7
