"""One progress line: a bar in a notebook, a line in a terminal, nothing when asked for silence.

In a notebook, what was noted with `point` is drawn below the bar while the work goes on.
"""

import math
import sys
import time
from html import escape
from typing import Any

WIDTH, HEIGHT, MARGIN = 320, 90, 6  # of the live plot, in pixels
COLOURS = ("#0072B2", "#D55E00")  # of its lines (Okabe and Ito, 2008)


def in_notebook() -> bool:
    """True inside a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class Progress:
    """A progress bar with the time left.

    Args:
        total: steps in all.
        label: what is being done.
        silent: show nothing.
    """

    def __init__(self, total: int, label: str, silent: bool = False):
        self.total, self.label, self.silent = total, label, silent
        self.start = self.last_shown = time.monotonic()
        self.handle: Any = None  # of IPython, once there is something to show
        self.curves: dict[str, list[tuple[int, float]]] = {}
        self.kind = "notebook" if in_notebook() else "terminal" if sys.stderr.isatty() else "plain"

    def point(self, curve: str, done: int, value: float) -> None:
        """Note a value for the live plot, such as the loss after `done` steps."""
        self.curves.setdefault(curve, []).append((done, value))

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` steps are done; at most every half second."""
        now = time.monotonic()
        finished = done >= self.total
        if self.silent or (now - self.last_shown < 0.5 and not finished):
            return
        self.last_shown = now
        elapsed = now - self.start
        left = elapsed / max(done, 1) * (self.total - done)
        timing = f"{elapsed:.0f} s" if finished else f"{elapsed:.0f} s, {left:.0f} s left"
        line = f"{self.label}: {done}/{self.total} ({timing}) {note}".rstrip()
        if self.kind == "notebook":
            self._show_bar(done, line)
        elif self.kind == "terminal":
            end = "\n" if finished else ""
            print(f"\r\033[K{line}", end=end, file=sys.stderr, flush=True)
        elif finished:
            print(line, flush=True)

    def tick(self, seconds: float) -> None:
        """On a terminal, for work whose steps are not known: show the seconds gone by."""
        if self.kind == "terminal" and not self.silent:
            line = f"{self.label}: {seconds:.0f} of about {self.total}"
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line from the terminal."""
        if self.kind == "terminal" and not self.silent:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def _show_bar(self, done: int, line: str) -> None:
        from IPython.display import DisplayHandle

        share = done / self.total
        bundle = {
            "text/plain": line,
            "text/html": f'<progress value="{share:.3f}" max="1" aria-label="{escape(self.label)}">'
            f"</progress> {escape(line)}{live_plot(self.curves, self.total)}",
        }
        if self.handle is None:
            self.handle = DisplayHandle()
            self.handle.display(bundle, raw=True)
        else:
            self.handle.update(bundle, raw=True)


def live_plot(curves: dict[str, list[tuple[int, float]]], total: int) -> str:
    """A small drawing (SVG) of values over the steps so far, with words for it; "" if too few.

    Args:
        curves: name → (steps done, value) pairs; values that are not finite are left out.
        total: steps in all, the width of the drawing.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in curves.items()
    }
    values = [y for points in finite.values() for _, y in points]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    lines, told = [], []
    for (name, points), colour in zip(finite.items(), COLOURS * len(finite), strict=False):
        if not points:
            continue
        places = [
            (
                MARGIN + (WIDTH - 2 * MARGIN) * x / max(total, 1),
                HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (y - low) / ((high - low) or 1),
            )
            for x, y in points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = places[-1]
        lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        told.append((f"{name} {points[0][1]:.3g} to {points[-1][1]:.3g}", colour))
    alt = escape("; ".join(text for text, _ in told))
    legend = "; ".join(
        f'<span style="border-bottom:3px solid {colour}">{escape(text)}</span>'
        for text, colour in told
    )
    return (
        f'<br><svg role="img" aria-label="{alt}" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width:100%">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#8a929c"/>{"".join(lines)}'
        f"</svg><br><small>{legend}</small>"
    )
