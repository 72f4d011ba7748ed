"""Every solution notebook executes offline, its claims hold, its figures can be read out.

The learner's copies are executed by nbval: see the test command in the Makefile.
"""

import os
from pathlib import Path

import nbformat
import pytest

from course_utils.notebooks import lessons
from course_utils.runner import run_lesson

OFFLINE = Path(__file__).parent / "offline"


@pytest.fixture(params=lessons(), ids=lambda lesson: lesson.number, scope="module")
def executed(request, tmp_path_factory):
    """A lesson's run and its executed notebook."""
    folder = tmp_path_factory.mktemp("executed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(OFFLINE), os.environ.get("PYTHONPATH", "")])
        )
        result = run_lesson(request.param, "quick", folder)
    return result, nbformat.read(folder / f"{request.param.name}.ipynb", as_version=4)


@pytest.mark.notebook
def test_solution_runs_and_its_claims_hold(executed):
    result, _ = executed
    assert result.error is None
    assert result.status == "passed"
    assert len(result.claims) >= 3
    assert all(claim["holds"] for claim in result.claims)


@pytest.mark.notebook
def test_figures_have_alternative_text(executed):
    _, notebook = executed
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    html = [output.get("data", {}).get("text/html", "") for output in outputs]
    pictures = [text for text in html if "<img" in text]
    assert len(pictures) >= 2
    assert all('<img alt="' in text for text in pictures)
    assert not any("image/png" in output.get("data", {}) for output in outputs), (
        "a figure without alternative text: show it with describe()"
    )


@pytest.mark.notebook
def test_nothing_is_written_to_stderr(executed):
    _, notebook = executed
    noise = [
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
    ]
    assert noise == []
