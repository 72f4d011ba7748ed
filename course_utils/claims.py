"""Claims: what a lesson asserts, as code that measures, shows, records and can fail.

A claim is displayed as a line in the notebook. Its record travels in the output itself, under
the mime type `MIME`, where the runner and the site find it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from statistics import median

from course_utils import journal
from course_utils.errors import CourseError
from course_utils.show import show

MIME = "application/vnd.finetuning-course.claim+json"


class ClaimFailed(AssertionError):
    """What a lesson asserts was not measured this time."""


@dataclass(frozen=True)
class Claim:
    """A measured statement.

    Attributes:
        id: lesson and number, such as "11.2".
        text: what is claimed.
        value: the measured number; the median if there were several runs.
        low, high: the range of the runs; both the value if there was one.
        at_least, at_most: what the value must keep.
        runs: how many runs the value comes from.
    """

    id: str
    text: str
    value: float
    low: float
    high: float
    at_least: float | None
    at_most: float | None
    runs: int

    @property
    def holds(self) -> bool:
        finite = all(map(math.isfinite, (self.value, self.low, self.high)))
        above = self.at_least is None or self.value >= self.at_least
        return finite and above and (self.at_most is None or self.value <= self.at_most)

    @property
    def bound(self) -> str:
        limits = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        limits += [f"at most {self.at_most:g}"] if self.at_most is not None else []
        return " and ".join(limits)

    def _ipython_display_(self) -> None:
        """Nothing: `claim` has shown it already, also where it is a cell's last value."""

    def __str__(self) -> str:
        spread = ""
        if self.runs > 1:
            spread = f" (median of {self.runs} runs, {self.low:.3g} to {self.high:.3g})"
        verdict = "holds" if self.holds else "does NOT hold"
        return f"Claim {self.id} {verdict}: {self.text}: {self.value:.3g}{spread}, {self.bound}"


def claim(
    id: str,
    text: str,
    value: float | Sequence[float],
    at_least: float | None = None,
    at_most: float | None = None,
) -> Claim:
    """Assert something about a measured number, show it and record it.

    Args:
        id: lesson and number, such as "11.2".
        text: the statement, in plain words.
        value: the number, or one number a seed; the median counts, the range is recorded.
        at_least, at_most: the bounds that make the statement true; at least one of them.

    Raises:
        ClaimFailed: the number breaks a bound or is not finite.
    """
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)]
    if at_least is None and at_most is None:
        raise CourseError(f"claim {id} cannot fail: give it at_least or at_most")
    if not values:
        raise CourseError(f"claim {id} has no value")
    if any(map(math.isnan, values)):  # which no order can place: one spoils the whole
        values = [math.nan] * len(values)
    made = Claim(id, text, median(values), min(values), max(values), at_least, at_most, len(values))
    mark, colour = ("✓", "#0a6b3d") if made.holds else ("✗", "#a3261f")
    html = (
        f'<div role="note" id="claim-{escape(id)}" '
        f'style="border-left:4px solid {colour};padding:.3em .8em">'
        f"<b>{mark}</b> {escape(str(made))}</div>"
    )
    record = {  # JSON has no word for what is not finite
        key: None if isinstance(entry, float) and not math.isfinite(entry) else entry
        for key, entry in asdict(made).items()
    }
    show(str(made), html, {MIME: {**record, "holds": made.holds}})
    journal.note("claim", id, value=record["value"], holds=made.holds)
    if not made.holds:
        raise ClaimFailed(str(made))
    return made
