"""Figures: small functions that take arrays or histories and return the Axes.

`describe(axes, "…")` shows a figure with its alternative text; every figure of the course goes
through it. Colours are those of Okabe and Ito (2008), told apart by colour-blind readers, and
line styles and markers differ too.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import torch
from cycler import cycler
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from course_utils.errors import CourseError
from course_utils.history import History
from course_utils.show import show

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
STYLE = {
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "figure.figsize": (6.4, 3.6),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "savefig.dpi": 110,
}
MIN_ALT = 30  # characters; shorter texts do not say what a figure shows


def new_axes(width: float = 6.4, height: float = 3.6) -> Axes:
    """One empty plot in the course's style; size in inches."""
    with plt.rc_context(STYLE):
        return plt.subplots(figsize=(width, height))[1]


def describe(figure: Axes | Figure, alt: str) -> None:
    """Show a figure with its alternative text, and close it.

    Args:
        figure: the Axes or Figure.
        alt: what the figure shows, for those who cannot see it; put the measured numbers in.
    """
    if len(alt.strip()) < MIN_ALT:
        raise CourseError(
            f"the alternative text {alt!r} is too short: say what is drawn and what it shows"
        )
    whole = figure if isinstance(figure, Figure) else figure.get_figure(root=True)
    assert whole is not None
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):
        whole.savefig(buffer, format="png")
    plt.close(whole)
    image = base64.b64encode(buffer.getvalue()).decode()
    html = (
        f'<img alt="{escape(alt)}" src="data:image/png;base64,{image}" '
        'style="max-width:100%;background:white">'
    )
    show(f"[Figure: {alt}]", html)


def plot_history(histories: History | Sequence[History], measure: str = "valid_accuracy") -> Axes:
    """One line a run over its epochs; `measure` is a field of `history.Epoch`."""
    runs = [histories] if isinstance(histories, History) else list(histories)
    axes = new_axes()
    for run, marker in zip(runs, MARKERS * len(runs), strict=False):
        axes.plot(run.column("number"), run.column(measure), marker=marker, label=run.recipe)
    unit = " (nats)" if measure.endswith("loss") else ""
    axes.set(xlabel="epoch", ylabel=measure.replace("_", " ") + unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return axes


def plot_bars(
    values: Mapping[str, float | Sequence[float]], xlabel: str, chance: float | None = None
) -> Axes:
    """Horizontal bars; several values a bar give its median and a line for their range.

    Args:
        values: a number, or one number a seed, for each name.
        xlabel: what is measured, with its unit.
        chance: draw a line at this value, what guessing would give.
    """
    axes = new_axes(height=0.7 + 0.45 * len(values))
    names = list(values)
    runs = [np.atleast_1d(np.asarray(values[name], dtype=float)) for name in names]
    middle = np.array([np.median(run) for run in runs])
    reach = np.array([[m - run.min(), run.max() - m] for m, run in zip(middle, runs, strict=True)])
    colours = [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    axes.barh(names, middle, xerr=reach.T if any(len(r) > 1 for r in runs) else None,
              color=colours, height=0.6, error_kw={"capsize": 3})  # fmt: skip
    for y, (m, (_, above)) in enumerate(zip(middle, reach, strict=True)):
        label = f"{m:,.0f}" if abs(m) >= 1000 else f"{m:.3g}"
        place = max(m + above, 0.0)  # beside a bar that points to the left, not inside it
        axes.annotate(label, (place, y), (4, 0), textcoords="offset points", va="center")
    if chance is not None:
        axes.axvline(chance, color="0.3", linestyle=":", label="guessing")
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=xlabel)
    axes.margins(x=0.12)
    return axes


def plot_lines(
    x: Sequence[float], lines: Mapping[str, Sequence], xlabel: str, ylabel: str, log_x: bool = False
) -> Axes:
    """One line a name; if a point holds several values, their median and a band of their range."""
    axes = new_axes()
    for (name, points), marker in zip(lines.items(), MARKERS * len(lines), strict=False):
        runs = [np.atleast_1d(np.asarray(point, dtype=float)) for point in points]
        (line,) = axes.plot(x, [np.median(run) for run in runs], marker=marker, label=name)
        if any(len(run) > 1 for run in runs):
            axes.fill_between(
                x, [run.min() for run in runs], [run.max() for run in runs],
                color=line.get_color(), alpha=0.2, linewidth=0,
            )  # fmt: skip
    if log_x:
        axes.set_xscale("log")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(frameon=False)
    return axes


def plot_images(
    images: torch.Tensor, titles: Sequence[str], columns: int = 6, boxes: torch.Tensor | None = None
) -> Figure:
    """A grid of uint8 images (n, 3, H, W) with titles and, if given, boxes (n, 4) in pixels."""
    rows = -(-len(images) // columns)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, grid = plt.subplots(
            rows, columns, figsize=(1.5 * columns, 1.75 * rows), squeeze=False
        )
    for axes in grid.flat:
        axes.axis("off")
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        axes = grid.flat[i]
        axes.imshow(image.permute(1, 2, 0).cpu().numpy(), interpolation="bicubic")
        axes.set_title(title, fontsize=9)
        if boxes is not None and not torch.isnan(boxes[i]).any():
            x0, y0, x1, y1 = boxes[i].tolist()
            axes.add_patch(plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False,
                                         edgecolor=PALETTE[4], linewidth=1.5))  # fmt: skip
    return figure


def plot_confusion(counts: torch.Tensor, classes: Sequence[str]) -> Axes:
    """A confusion matrix (rows true, columns predicted) with its counts."""
    side = 1.6 + 0.42 * len(classes)
    axes = new_axes(side + 0.6, side)
    axes.grid(False)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes.imshow(shares.cpu().numpy(), cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(counts.tolist()):
        for j, count in enumerate(row):
            if count:
                dark = bool(shares[i, j] > 0.5)
                axes.text(j, i, count, ha="center", va="center", fontsize=8,
                          color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    return axes


def show_table(rows: Sequence[Mapping[str, object]], caption: str) -> None:
    """Show rows as a table with a caption; floats with three digits."""

    def cell(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(
            value, int) and not isinstance(value, bool) else str(value)  # fmt: skip

    names = list(rows[0])
    cells = [[cell(row[name]) for name in names] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(names, *cells, strict=True)]
    lines = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in [names, *cells]
    ]
    numeric = [isinstance(rows[0][name], int | float) for name in names]
    align = [' style="text-align:right"' if n else ' style="text-align:left"' for n in numeric]
    head = "".join(
        f'<th scope="col"{a}>{escape(n)}</th>' for n, a in zip(names, align, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{a}>{escape(t)}</td>" for t, a in zip(line, align, strict=True))
        + "</tr>"
        for line in cells
    )  # fmt: skip
    html = (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
    show("\n".join([caption, *lines]), html)
