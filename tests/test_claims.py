"""Tests of claims: measured, shown, recorded, and able to fail (course_utils/claims.py)."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import claims
from course_utils.claims import MIME, ClaimFailed, claim
from course_utils.errors import CourseError

numbers = st.floats(-1e6, 1e6)


@pytest.fixture
def shown(monkeypatch) -> list:
    """What is displayed, as (plain text, HTML, record)."""
    calls = []
    monkeypatch.setattr(
        claims, "show", lambda text, html, records: calls.append((text, html, records[MIME]))
    )
    return calls


def test_a_claim_that_holds_is_shown_and_recorded(shown):
    made = claim("11.2", "fine-tuning beats the baseline", 0.912345, at_least=0.8)
    assert made.holds and made.value == 0.912345
    (text, html, record) = shown[0]
    assert text == "Claim 11.2 holds: fine-tuning beats the baseline: 0.912, at least 0.8"
    assert text in html and "✓" in html
    assert record == {
        "id": "11.2", "text": "fine-tuning beats the baseline", "value": 0.912345,
        "low": 0.912345, "high": 0.912345, "at_least": 0.8, "at_most": None, "runs": 1,
        "holds": True,
    }  # fmt: skip


def test_a_claim_that_fails_is_recorded_before_it_stops_the_run(shown):
    with pytest.raises(ClaimFailed, match="Claim 20.1 does NOT hold: it is fast: 9, at most 5"):
        claim("20.1", "it is fast", 9, at_most=5)
    (_, html, record) = shown[0]
    assert record["holds"] is False and record["value"] == 9 and "✗" in html


def test_over_several_runs_the_median_counts_and_the_range_is_kept(shown):
    made = claim("11.3", "better", [0.9, 0.2, 0.8], at_least=0.75)
    assert (made.value, made.low, made.high, made.runs) == (0.8, 0.2, 0.9, 3)
    assert "median of 3 runs, 0.2 to 0.9" in shown[0][0]


@settings(deadline=None)
@given(st.lists(numbers, min_size=1, max_size=7), numbers, numbers)
def test_a_claim_holds_exactly_when_the_median_keeps_its_bounds(values, low, high):
    middle = torch.tensor(values, dtype=torch.float64).quantile(0.5).item()
    if min(abs(middle - low), abs(middle - high)) < 1e-6 * max(1, abs(middle)):
        return  # rounding decides
    if low <= middle <= high:
        assert claim("1.1", "between", values, at_least=low, at_most=high).holds
    else:
        with pytest.raises(ClaimFailed):
            claim("1.1", "between", values, at_least=low, at_most=high)


def test_the_bounds_themselves_are_allowed(shown):
    assert claim("1.1", "between", 1, at_least=1, at_most=1).bound == "at least 1 and at most 1"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("alone", [True, False])
def test_what_is_not_finite_never_holds_and_is_recorded_as_json(shown, bad, alone):
    with pytest.raises(ClaimFailed):
        claim("1.1", "small", bad if alone else [0.5, bad, 0.5], at_least=-9, at_most=9)
    with pytest.raises(ClaimFailed):
        claim("1.1", "large", bad if alone else [bad, 0.5, 0.5], at_least=-9)
    for _, _, record in shown:
        assert record["holds"] is False
        json.dumps(record, allow_nan=False)


def test_a_claim_must_be_able_to_fail(shown):
    with pytest.raises(CourseError, match="claim 1.1 cannot fail: give it at_least or at_most"):
        claim("1.1", "anything", 3)
    with pytest.raises(CourseError, match="claim 1.1 has no value"):
        claim("1.1", "nothing", [], at_least=0)
    assert shown == []


def test_tensors_and_marks_of_html_are_taken_as_they_are(shown):
    claim("1.1", "a < b & c", torch.tensor(2.0), at_least=1)
    assert "a &lt; b &amp; c" in shown[0][1] and shown[0][2]["value"] == 2.0


def test_outside_a_notebook_the_plain_form_is_printed(capsys):
    claim("1.1", "it works", 3, at_least=2)
    assert capsys.readouterr().out == "Claim 1.1 holds: it works: 3, at least 2\n"
