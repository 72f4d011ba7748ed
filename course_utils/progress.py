"""One progress line: a bar in a notebook, a line in a terminal, nothing when asked for silence."""

import sys
import time
from html import escape
from typing import Any


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
        self.kind = "notebook" if in_notebook() else "terminal" if sys.stderr.isatty() else "plain"

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
            f"</progress> {escape(line)}",
        }
        if self.handle is None:
            self.handle = DisplayHandle()
            self.handle.display(bundle, raw=True)
        else:
            self.handle.update(bundle, raw=True)
