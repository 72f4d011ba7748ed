"""Tests of executing lessons (course_utils/runner.py), and of the site made from them."""

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from course_utils import notebooks, runner
from course_utils.__main__ import main
from course_utils.assets import ROOT
from course_utils.claims import MIME as CLAIM_MIME
from course_utils.errors import CourseError
from course_utils.questions import CHECK_MIME

PNG = (  # one grey pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
CLAIM = "from course_utils.claims import claim\n"
LESSONS = {
    "10_good": CLAIM + 'claim("10.1", "it is high", 0.9, at_least=0.5)\n\n# %%\n'
    'claim("10.2", "so are most", [0.2, 0.9, 0.8], at_least=0.7, at_most=1)\n'
    'assert PROFILE == "quick" and SEED == 0',
    "11_claim_fails": CLAIM + 'claim("11.1", "it holds", 1, at_most=2)\n\n# %%\n'
    'claim("11.2", "it is high", 0.1, at_least=0.5)\n\n# %%\n'
    'claim("11.3", "never measured", 1, at_least=0)',
    "12_killed": CLAIM + 'claim("12.1", "until here", 1, at_least=0)\n\n# %%\n'
    "import os\n\nos.kill(os.getpid(), 9)",
    # The exercises of a lesson that exists for this kernel alone.
    "13_unsolved": "import sys\nimport types\n\nfrom course_utils.questions import check\n\n"
    'module = types.ModuleType("course_utils.lessons.lesson_13")\n'
    'module.EXERCISES = dict.fromkeys("12", lambda answer: None if answer == 2 else "try again")\n'
    'sys.modules[module.__name__] = module\n\n# %%\ncheck("13.1", 2)\ncheck("13.2", 3)',
    "14_good_too": CLAIM + 'claim("14.1", "the others go on", 1, at_least=1)',
}
SOURCE = """\
# %% [markdown]
# # {name}

# %% tags=["parameters"]
PROFILE = "full"
SEED = 0

# %%
{code}
"""
DOCUMENTED = ["id", "text", "value", "low", "high", "holds"]  # of a claim, in issue 2


class Executed:
    """What one call of the command left behind."""

    def __init__(self, status: int, printed: str, build: Path):
        self.status, self.printed, self.build = status, printed, build
        self.run = json.loads((build / "run.json").read_text(encoding="utf-8"))
        self.lessons = {lesson["name"]: lesson for lesson in self.run["lessons"]}


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Executed:
    """Five small lessons, executed by the command: three of them go wrong."""
    from contextlib import redirect_stdout
    from io import StringIO

    root = tmp_path_factory.mktemp("course")
    sources = root / "notebooks" / "src"
    sources.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, code in LESSONS.items():
        (sources / f"{name}.py").write_text(SOURCE.format(name=name, code=code), encoding="utf-8")
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(notebooks, "ROOT", root)
        patch.setattr(notebooks, "NOTEBOOKS", sources.parent)
        patch.setattr(notebooks, "SOURCES", sources)
        patch.setattr(notebooks, "TIMINGS", sources.parent / "timings.json")
        patch.setattr(runner, "TIMINGS", sources.parent / "timings.json")
        patch.setattr(notebooks, "BOOTSTRAP", "# a small one, for time")
        patch.setenv("HF_HUB_OFFLINE", "0")  # so that it is put back afterwards
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
        notebooks.build()
        status = main(["run", "--build", str(root / "build"), "--record"])
    return Executed(status, printed.getvalue(), root / "build")


@pytest.mark.slow
def test_a_run_goes_to_its_end_and_tells_by_its_status_what_happened(executed):
    assert executed.status == 1
    assert list(executed.lessons) == list(LESSONS)
    status = {name: lesson["status"] for name, lesson in executed.lessons.items()}
    assert status == {
        "10_good": "passed", "11_claim_fails": "failed", "12_killed": "failed",
        "13_unsolved": "failed", "14_good_too": "passed",
    }  # fmt: skip


@pytest.mark.slow
def test_run_json_has_the_documented_form(executed):
    assert list(executed.run) == ["profile", "device", "lessons"]
    assert executed.run["profile"] == "quick" and executed.run["device"].startswith(("cpu", "cuda"))
    for lesson in executed.lessons.values():
        assert list(lesson) == ["name", "status", "seconds", "peak_mb", "claims", "error"]
        assert 0 < lesson["seconds"] < 600
        assert 10 < lesson["peak_mb"] < 20_000, "a kernel takes tens of megabytes"
        assert (lesson["error"] is None) == (lesson["status"] == "passed")
        for claim in lesson["claims"]:
            assert list(claim)[: len(DOCUMENTED)] == DOCUMENTED
            assert set(claim) - set(DOCUMENTED) == {"at_least", "at_most", "runs"}


@pytest.mark.slow
def test_claims_are_recorded_as_they_were_measured(executed):
    one, several = executed.lessons["10_good"]["claims"]
    assert one == {
        "id": "10.1", "text": "it is high", "value": 0.9, "low": 0.9, "high": 0.9, "holds": True,
        "at_least": 0.5, "at_most": None, "runs": 1,
    }  # fmt: skip
    assert (several["value"], several["low"], several["high"]) == (0.8, 0.2, 0.9)
    assert several["runs"] == 3 and several["holds"] is True


@pytest.mark.slow
def test_what_went_wrong_is_recorded_with_the_claims_made_before(executed):
    failed = executed.lessons["11_claim_fails"]
    assert [(claim["id"], claim["holds"]) for claim in failed["claims"]] == [
        ("11.1", True),
        ("11.2", False),
    ]
    assert failed["error"].startswith("ClaimFailed: Claim 11.2 does NOT hold: it is high: 0.1")
    killed = executed.lessons["12_killed"]
    assert [claim["id"] for claim in killed["claims"]] == ["12.1"]
    assert "DeadKernelError" in killed["error"] and killed["seconds"] < 120
    unsolved = executed.lessons["13_unsolved"]
    assert unsolved["error"] == "the solution's own answer is not accepted in exercise 13.2"


@pytest.mark.slow
def test_progress_and_the_closing_table_are_printed(executed):
    for number, name in enumerate(LESSONS, 1):
        assert f"[{number}/5] {name}" in executed.printed
    table = executed.printed[executed.printed.index("lesson ") :].splitlines()
    assert re.split(r"  +", table[0]) == [
        "lesson", "status", "seconds", "peak MB", "claims held / made",
    ]  # fmt: skip
    assert table[1].startswith("10_good") and table[1].endswith("2 / 2")
    assert table[2].startswith("11_claim_fails") and table[2].endswith("1 / 2")
    assert f"Pages: {executed.build / 'site' / 'index.html'}" in executed.printed


@pytest.mark.slow
def test_only_lessons_that_passed_have_their_times_kept(executed):
    timings = json.loads((executed.build.parent / "notebooks" / "timings.json").read_text())
    assert list(timings) == ["10", "14"]
    (kept,) = timings["10"].values()
    assert kept["profile"] == "quick" and kept["seconds"] == executed.lessons["10_good"]["seconds"]


@pytest.mark.slow
def test_every_executed_lesson_has_a_page_with_its_claims(executed):
    index = (executed.build / "site" / "index.html").read_text(encoding="utf-8")
    for name in LESSONS:
        assert f'href="{name}.html"' in index
    page = (executed.build / "site" / "10_good.html").read_text(encoding="utf-8")
    assert "Claim 10.1 holds: it is high: 0.9, at least 0.5" in page and "2 of 2 claims" in page
    evidence = (executed.build / "site" / "evidence.html").read_text(encoding="utf-8")
    assert evidence.count("does not hold") == 1 and "#claim-11.2" in evidence


# --- without a kernel -----------------------------------------------------------------------


class Double:
    """A lesson whose notebook is not there."""

    name, number = "98_absent", "98"

    def __init__(self, folder: Path):
        self.solution = folder / "98_absent.ipynb"


@pytest.fixture
def untouched_environment(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "0")


def executed_notebook(outputs: list[dict]) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("quiz()", execution_count=1)
    cell.outputs = [nbformat.v4.new_output("display_data", data=data) for data in outputs]
    title = nbformat.v4.new_markdown_cell(
        "# Title\n\n[![Open in Colab](https://example.org/badge.svg)](https://example.org/colab)\n\n"
        "A formula $a^2$, a [link](https://example.org/paper), `code`.\n\n"
        "```mermaid\ngraph LR; a-->b\n```"
    )
    return nbformat.v4.new_notebook(cells=[title, cell])


def test_the_claims_of_an_earlier_run_are_not_taken_for_this_ones(tmp_path, untouched_environment):
    lesson, build = Double(tmp_path), tmp_path / "build"
    old = build / "executed" / "quick" / f"{lesson.name}.ipynb"
    old.parent.mkdir(parents=True)
    record = {"id": "98.1", "text": "old", "value": 1, "low": 1, "high": 1, "holds": True,
              "at_least": 0, "at_most": None, "runs": 1}  # fmt: skip
    nbformat.write(executed_notebook([{CLAIM_MIME: record}]), old)
    assert runner._records(old)[0] == [record], "the record would have been found"
    said: list[str] = []
    (result,) = runner.run([lesson], "quick", build, said.append)
    assert result.status == "failed" and result.claims == []
    assert "98_absent.ipynb" in result.error and any(result.error in line for line in said)
    assert json.loads((build / "run.json").read_text())["lessons"][0]["status"] == "failed"


def test_open_and_wrong_exercises_are_found(tmp_path):
    states = {"1.1": "right", "1.2": "wrong", "1.3": "open"}
    outputs = [{CHECK_MIME: {"id": id, "state": state}} for id, state in states.items()]
    nbformat.write(executed_notebook(outputs), tmp_path / "run.ipynb")
    assert runner._records(tmp_path / "run.ipynb") == ([], ["1.2", "1.3"])


def test_a_folder_that_cannot_be_written_is_named_before_anything_runs(tmp_path):
    (tmp_path / "build").write_text("a file where the folder should be")
    with pytest.raises(CourseError, match=r"cannot write to .*build.*another folder with --build"):
        runner.run([Double(tmp_path)], "quick", tmp_path / "build")


def test_an_unknown_profile_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CourseError, match="no profile 'fast'; the profiles are quick, full"):
        runner.run([Double(tmp_path)], "fast", tmp_path / "build")
    assert not (tmp_path / "build").exists()


def test_no_lesson_at_all_is_an_error(tmp_path):
    with pytest.raises(CourseError, match="no lesson to run"):
        runner.run([], "quick", tmp_path / "build")
