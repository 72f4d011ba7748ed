"""Notebooks are built: `notebooks/src/NN_topic.py` is the only file edited by hand.

A source is a jupytext percent script. From it come the learner's copy (`notebooks/`, exercises
as stubs) and the solution (`notebooks/solutions/`), both without outputs and with cell ids made
of name and position, so that differences stay readable.

Two markers, both within code cells, hide a solution from the learner:

    rate = 2e-4  # solution            →  rate = ...  # your answer

    # solution begin                   →  ...  # your code
    any number of lines
    # solution end
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from course_utils.assets import ROOT
from course_utils.errors import CourseError
from course_utils.glossary import as_markdown, linked

NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "src"
TIMINGS = NOTEBOOKS / "timings.json"
ONE_LINE = re.compile(r"^(\s*[\w.]+(?:\s*:[^=]+)?\s*=).*#\s*solution\s*$")


@dataclass(frozen=True)
class Lesson:
    """One lesson's files. `number` is "11", `name` is "11_fine_tuning_bert"."""

    name: str

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def source(self) -> Path:
        return SOURCES / f"{self.name}.py"

    @property
    def learner(self) -> Path:
        return NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def solution(self) -> Path:
        return NOTEBOOKS / "solutions" / f"{self.name}.ipynb"


def lessons() -> list[Lesson]:
    """All lessons in the order in which a learner takes them."""
    return [Lesson(path.stem) for path in sorted(SOURCES.glob("[0-9][0-9]_*.py"))]


def find_lesson(wanted: str) -> Lesson:
    """A lesson by its number ("11") or name; raises `CourseError`."""
    for lesson in lessons():
        if wanted in (lesson.number, lesson.name):
            return lesson
    known = ", ".join(lesson.number for lesson in lessons())
    raise CourseError(f"there is no lesson {wanted!r}; the lessons are {known}")


def repository() -> str:
    """Owner and name of the course's repository: they stand in pyproject.toml alone."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        url = tomllib.load(file)["project"]["urls"]["Repository"]
    return "/".join(url.rstrip("/").split("/")[-2:])


def render(lesson: Lesson) -> dict[Path, str]:
    """The two notebooks of a lesson as text, by the path where each belongs.

    Raises:
        CourseError: the source cannot be read as a lesson.
    """
    import jupytext  # for maintainers: a hosted session does not have it

    try:
        text = lesson.source.read_text(encoding="utf-8")
        cells = jupytext.reads(text, fmt="py:percent").cells
    except Exception as error:  # not UTF-8, or one of jupytext's many kinds
        raise CourseError(f"{lesson.source.name} is not a percent script: {error}") from error
    _check_source(lesson, cells)
    return {
        lesson.learner: _notebook_text(lesson, [_as_stub(lesson, cell) for cell in cells], False),
        lesson.solution: _notebook_text(lesson, cells, True),
    }


def build(check: bool = False) -> list[Path]:
    """Write the notebooks of all lessons, and the glossary that they link to.

    Args:
        check: write nothing.

    Returns:
        The files that were (or, with `check`, would be) changed or removed.
    """
    wanted = {path: text for lesson in lessons() for path, text in render(lesson).items()}
    wanted[NOTEBOOKS / "glossary.md"] = as_markdown()
    existing = [*NOTEBOOKS.glob("*.ipynb"), *(NOTEBOOKS / "solutions").glob("*.ipynb")]
    orphans = [path for path in existing if path not in wanted]
    changed = [
        path
        for path, text in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if not check:
        for path in changed:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        for path in orphans:
            path.unlink()
    return changed + orphans


def _check_source(lesson: Lesson, cells: list[NotebookNode]) -> None:
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        raise CourseError(f"{lesson.source.name} must begin with a markdown cell '# title'")
    if sum("parameters" in cell.metadata.get("tags", []) for cell in cells) != 1:
        raise CourseError(
            f"{lesson.source.name} needs exactly one cell with the tag parameters: "
            '# %% tags=["parameters"]'
        )
    for number, cell in enumerate(cells, 1):
        if cell.cell_type == "code":
            try:
                compile(_without_magics(cell.source), f"cell {number}", "exec")
            except SyntaxError as error:
                raise CourseError(
                    f"{lesson.source.name}: cell {number}, line {error.lineno} is not Python: "
                    f"{error.msg}"
                ) from error


def _without_magics(source: str) -> str:
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in source.splitlines())


def _as_stub(lesson: Lesson, cell: NotebookNode) -> NotebookNode:
    """The cell as a learner gets it."""
    if cell.cell_type != "code" or "solution" not in cell.source:
        return cell
    lines: list[str] = []
    hidden_from: int | None = None
    for line in cell.source.splitlines():
        marker = line.strip()
        if marker == "# solution begin":
            hidden_from = len(lines)
            indent = line[: len(line) - len(line.lstrip())]
            lines.append(f"{indent}...  # your code")
        elif marker == "# solution end":
            if hidden_from is None:
                raise CourseError(f"{lesson.source.name}: '# solution end' without a begin")
            hidden_from = None
        elif hidden_from is None:
            lines.append(ONE_LINE.sub(r"\1 ...  # your answer", line))
    if hidden_from is not None:
        raise CourseError(f"{lesson.source.name}: '# solution begin' without an end")
    stub = "\n".join(lines)
    if re.search(r"#\s*solution\s*$", stub, re.MULTILINE):
        raise CourseError(
            f"{lesson.source.name}: '# solution' must stand behind a simple assignment:\n{stub}"
        )
    return nbformat.from_dict({**cell, "source": stub})


def _notebook_text(lesson: Lesson, cells: list[NotebookNode], is_solution: bool) -> str:
    path = lesson.solution if is_solution else lesson.learner
    place = path.relative_to(ROOT).as_posix()
    badge = (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{repository()}/blob/main/{place})"
    )
    first = nbformat.from_dict({**cells[0], "source": f"{cells[0].source}\n\n{_timing(lesson)}"})
    whole = [
        nbformat.v4.new_markdown_cell(badge),
        first,
        nbformat.v4.new_code_cell(BOOTSTRAP.format(repository=repository())),
        *cells[1:],
    ]
    glossary = "../glossary.md" if is_solution else "glossary.md"
    for number, cell in enumerate(whole):
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, glossary)
        cell.id = f"{lesson.name.replace('_', '-')[:40]}-{number:03d}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
    notebook = nbformat.v4.new_notebook(
        cells=whole,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _timing(lesson: Lesson) -> str:
    """How long the lesson takes, from the measured runs in `timings.json`."""
    timings = json.loads(TIMINGS.read_text(encoding="utf-8")) if TIMINGS.is_file() else {}
    measured = timings.get(lesson.number, {})
    lines = [
        f"{run['seconds']:.0f} s in the profile `{run['profile']}` on {run['hardware']}"
        for run in measured.values()
    ]
    return "**Time to run:** " + ("; ".join(lines) if lines else "not measured yet") + "."


BOOTSTRAP = """\
# On Google Colab this brings the course; on your own computer it only looks whether all is there.
import sys

if "google.colab" in sys.modules:
    !test -d course || git clone --quiet --depth 1 https://github.com/{repository} course
    !{{sys.executable}} course/course_utils/bootstrap.py
    sys.path.insert(0, "course")

from course_utils.doctor import announce

announce()"""
