"""Tests of the notebook builder, and of the lessons' sources (course_utils/notebooks.py)."""

import ast
import json
import re
import shutil
import statistics
from pathlib import Path

import jupytext
import nbformat
import pytest

from course_utils import notebooks
from course_utils.assets import ROOT
from course_utils.errors import CourseError
from course_utils.notebooks import build, find_lesson, lessons, render, repository

SOURCE = """\
# %% [markdown]
# # 11 · A lesson
#
# Words.

# %% tags=["parameters"]
PROFILE = "quick"
SEED = 0

# %% [markdown]
# ## Exercise

# %%
rate = 2e-4 * 3  # solution
other: float = rate  # not hidden

# %%
def loss(x):
    # solution begin
    y = x - 1
    return y * y
    # solution end


print("after")
"""


@pytest.fixture
def course(tmp_path, monkeypatch) -> Path:
    """An empty course; returns its folder of sources."""
    sources = tmp_path / "notebooks" / "src"
    sources.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", sources.parent)
    monkeypatch.setattr(notebooks, "SOURCES", sources)
    monkeypatch.setattr(notebooks, "TIMINGS", sources.parent / "timings.json")
    return sources


def add(course: Path, text: str = SOURCE, name: str = "11_a_lesson") -> notebooks.Lesson:
    (course / f"{name}.py").write_text(text, encoding="utf-8")
    return notebooks.Lesson(name)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_of(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")


# --- the builder ----------------------------------------------------------------------------


def test_the_learner_gets_stubs_and_the_solution_stays_whole(course):
    lesson = add(course)
    build()
    stub, whole = code_of(lesson.learner), code_of(lesson.solution)
    assert "rate = ...  # your answer" in stub and "2e-4" not in stub
    assert "    ...  # your code" in stub and "y * y" not in stub
    assert "other: float = rate  # not hidden" in stub and 'print("after")' in stub
    assert "solution begin" not in stub and "solution end" not in stub
    assert "rate = 2e-4 * 3" in whole and "return y * y" in whole


def test_a_stub_runs(course):
    lesson = add(course)
    build()
    cells = [cell.source for cell in read(lesson.learner).cells if cell.cell_type == "code"]
    names: dict = {}
    for source in cells[1:]:  # without the bootstrap, which is for IPython
        exec(compile(source, "cell", "exec"), names)
    assert names["rate"] is ... and names["loss"](3) is None


@pytest.mark.parametrize("line", ["a.b = f(1)", "    x = {'a': 1}", "total: int = 3", "w = v == 2"])
def test_a_one_line_solution_leaves_the_name(course, line):
    block = f"if True:\n{line}  # solution\n" if line.startswith(" ") else f"{line}  # solution\n"
    lesson = add(course, SOURCE + f"\n# %%\n{block}")
    stub = code_of_rendered(lesson)
    assert re.search(rf"^{re.escape(line.split(' =')[0])} = \.\.\.  # your answer$", stub, re.M)


def code_of_rendered(lesson) -> str:
    notebook = nbformat.reads(render(lesson)[lesson.learner], as_version=4)
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_notebooks_are_valid_bare_and_carry_their_tags(course):
    lesson = add(course)
    build()
    for path in (lesson.learner, lesson.solution):
        notebook = read(path)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert set(cell.metadata) <= {"tags"}
            if cell.cell_type == "code":
                assert cell.outputs == [] and cell.execution_count is None
        tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        assert len(tagged) == 1 and "PROFILE" in tagged[0].source


def test_cell_ids_are_unique_and_stay(course):
    lesson = add(course)
    build()
    before = [cell.id for cell in read(lesson.learner).cells]
    assert len(set(before)) == len(before)
    add(course, SOURCE.replace("Words.", "Other words.") + "\n# %%\nnew = 1\n")
    build()
    after = [cell.id for cell in read(lesson.learner).cells]
    assert after[: len(before)] == before and len(after) == len(before) + 1


def test_building_twice_changes_nothing(course):
    add(course)
    add(course, SOURCE, "20_another")
    assert len(build()) == 5  # two copies of each, and the glossary
    contents = {path: path.read_bytes() for path in course.parent.rglob("*.ipynb")}
    assert len(contents) == 4
    assert build() == [] and build(check=True) == []
    assert contents == {path: path.read_bytes() for path in course.parent.rglob("*.ipynb")}


def test_check_reports_and_writes_nothing(course):
    lesson = add(course)
    glossary = course.parent / "glossary.md"
    assert set(build(check=True)) == {lesson.learner, lesson.solution, glossary}
    assert not lesson.learner.exists()
    build()
    text = lesson.learner.read_text(encoding="utf-8")
    lesson.learner.write_text(text.replace("Words.", "Changed by hand."), encoding="utf-8")
    assert build(check=True) == [lesson.learner]
    assert build() == [lesson.learner] and lesson.learner.read_text(encoding="utf-8") == text


def test_notebooks_without_a_source_are_removed(course):
    lesson = add(course)
    gone = add(course, SOURCE, "20_another")
    build()
    gone.source.unlink()
    assert set(build(check=True)) == {gone.learner, gone.solution}
    assert gone.learner.exists()
    build()
    assert not gone.learner.exists() and not gone.solution.exists()
    assert lesson.learner.exists() and lesson.solution.exists()


def test_the_measured_time_stands_below_the_title(course):
    lesson = add(course)
    assert "**Time to run:** not measured yet." in render(lesson)[lesson.learner]
    run = {"profile": "quick", "hardware": "a laptop", "seconds": 41.7, "peak_mb": 900}
    notebooks.TIMINGS.write_text(json.dumps({"11": {"quick cpu": run}}))
    assert "42 s in the profile `quick` on a laptop" in render(lesson)[lesson.learner]


def broken(old: str, new: str) -> str:
    assert old in SOURCE
    return SOURCE.replace(old, new)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "must begin with a markdown cell '# title'"),
        (broken("# # 11 · A lesson\n", "# No title\n"), "must begin with a markdown cell"),
        (broken("# %% [markdown]\n# # 11", "# %%\n# # 11"), "must begin with a markdown cell"),
        (broken(' tags=["parameters"]', ""), "exactly one cell with the tag parameters"),
        (SOURCE + '\n# %% tags=["parameters"]\nCAPS = 1\n', "exactly one cell with the tag"),
        (broken("SEED = 0", "SEED = = 0"), "cell 2, line 2 is not Python: invalid syntax"),
        (broken("    # solution end\n", ""), "'# solution begin' without an end"),
        (broken("    # solution begin\n", ""), "'# solution end' without a begin"),
        (broken("rate = 2e-4 * 3  #", "print(3)  #"), "must stand behind a simple assignment"),
    ],
    ids=[
        "empty", "no title", "title in code", "no parameters", "two parameters", "syntax",
        "no end", "no begin", "no assignment",
    ],
)  # fmt: skip
def test_a_broken_source_gets_one_error_that_names_it(course, source, message):
    lesson = add(course, source)
    with pytest.raises(CourseError, match=f"11_a_lesson.py.*{re.escape(message)}"):
        build()
    assert not lesson.learner.exists() and not lesson.solution.exists()


def test_a_source_that_is_not_utf_8_gets_the_same(course):
    lesson = add(course)
    lesson.source.write_bytes(SOURCE.encode("latin-1"))
    with pytest.raises(CourseError, match="11_a_lesson.py is not a percent script: .*utf-8"):
        build()


def test_magics_are_allowed(course):
    lesson = add(course, SOURCE + "\n# %%\n# %timeit 1 + 1\nif True:\n    pass\n")
    build()
    assert "1 + 1" in code_of(lesson.learner)


def test_one_broken_source_leaves_the_notebooks_of_all_as_they_were(course):
    lesson = add(course)
    build()
    before = lesson.learner.read_bytes()
    add(course, SOURCE.replace("Words.", "New words."))
    add(course, "nothing", "20_broken")
    with pytest.raises(CourseError, match="20_broken"):
        build()
    assert lesson.learner.read_bytes() == before


def test_lessons_are_found_by_number_or_name_in_order(course):
    for name in ("20_second", "11_first", "30_third"):
        add(course, SOURCE, name)
    (course / "notes.py").write_text("no lesson")
    assert [lesson.number for lesson in lessons()] == ["11", "20", "30"]
    assert find_lesson("20") == find_lesson("20_second") == notebooks.Lesson("20_second")
    with pytest.raises(CourseError, match="no lesson '21'; the lessons are 11, 20, 30"):
        find_lesson("21")


# --- the lessons themselves -----------------------------------------------------------------

OWN = lessons()
needs_lessons = pytest.mark.skipif(not OWN, reason="there is no lesson in notebooks/src yet")
each_lesson = pytest.mark.parametrize("lesson", OWN, ids=lambda lesson: lesson.name)


@needs_lessons
def test_the_committed_notebooks_are_those_of_the_sources():
    assert [path.name for path in build(check=True)] == [], "run `python -m course_utils build`"


def source_cells(lesson) -> list[nbformat.NotebookNode]:
    return jupytext.reads(lesson.source.read_text(encoding="utf-8"), fmt="py:percent").cells


def learner_cells(lesson) -> list[nbformat.NotebookNode]:
    return nbformat.reads(render(lesson)[lesson.learner], as_version=4).cells


@each_lesson
def test_the_colab_badge_points_to_a_notebook_that_exists(lesson):
    for path, text in render(lesson).items():
        first = nbformat.reads(text, as_version=4).cells[0]
        target = re.search(r"\]\((https://colab\.[^)]+)\)$", first.source).group(1)
        before, _, place = target.partition("/blob/main/")
        assert before.endswith(f"/github/{repository()}")
        assert ROOT / place == path and path.is_file()
        assert re.match(r"\[!\[[^\]]{8,}\]", first.source), "the badge needs alternative text"


@each_lesson
def test_the_bootstrap_comes_before_any_other_code(lesson):
    first = next(cell for cell in learner_cells(lesson) if cell.cell_type == "code")
    assert 'if "google.colab" in sys.modules:' in first.source
    assert f"github.com/{repository()}" in first.source


@each_lesson
def test_the_parameters_are_profile_seed_and_capitals(lesson):
    tagged = [c for c in learner_cells(lesson) if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    body = ast.parse(tagged[0].source).body
    names = [target.id for node in body for target in node.targets]
    assert names[:2] == ["PROFILE", "SEED"] and all(name.isupper() for name in names)


@each_lesson
def test_headings_go_down_one_level_at_a_time(lesson):
    levels = []
    for cell in learner_cells(lesson):
        if cell.cell_type == "markdown":
            text = re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL)
            levels += [len(marks) for marks in re.findall(r"^(#+) \S", text, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1, "one title"
    jumps = [(a, b) for a, b in zip(levels, levels[1:], strict=False) if b > a + 1]
    assert jumps == []


@each_lesson
def test_every_cell_of_the_learners_copy_is_python(lesson):
    for number, cell in enumerate(learner_cells(lesson)):
        if cell.cell_type == "code":
            compile(notebooks._without_magics(cell.source), f"cell {number}", "exec")


@each_lesson
def test_code_comes_in_small_portions(lesson):
    cells = source_cells(lesson)
    lengths = [len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code"]
    assert statistics.median(lengths) < 10
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in cells)
    assert "ccc" not in kinds, f"three code cells in a row: {kinds}"


@each_lesson
def test_a_lesson_has_its_whole_anatomy(lesson):
    cells = learner_cells(lesson)
    text = "\n".join(cell.source for cell in cells)
    title = next(cell.source for cell in cells if cell.source.startswith("# "))
    assert "You will be able to" in title
    assert len(re.findall(r"^- ", title, re.MULTILINE)) >= 3, "three objectives"
    assert "**Time to run:**" in title and "Builds on" in title
    for call in ("predict", "claim", "check", "quiz", "describe"):
        assert re.search(rf"^\s*{call}\(|= {call}\(", text, re.MULTILINE), f"no {call}()"
    claimed = re.findall(r'claim\(\s*"([^"]+)"', text)
    assert len(set(claimed)) == len(claimed), "two claims of the same number"
    assert all(re.fullmatch(rf"{lesson.number}\.\d+", id) for id in claimed)
    assert "your answer" in text or "your code" in text, "no exercise is left to the learner"
