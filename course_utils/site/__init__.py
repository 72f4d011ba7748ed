"""The course as a static website, made from executed lessons; it works opened from disk.

`python -m course_utils run` executes and builds it, `python -m course_utils site` builds it anew
from what has been executed.
"""

import json
import shutil
from pathlib import Path

import nbformat

from course_utils.errors import CourseError
from course_utils.notebooks import lessons
from course_utils.runner import executed_folder
from course_utils.site import reference
from course_utils.site.cells import LessonPage, lesson_page
from course_utils.site.layout import Page, write_page
from course_utils.site.slides import deck

STATIC = Path(__file__).parent / "static"


def build_site(build: Path, profile: str = "quick") -> Path:
    """Write the site below `build`; returns the path of its first page.

    Args:
        build: the folder that `run` has written to.
        profile: the executed copies to show, "quick" or "full".

    Raises:
        CourseError: no lesson has been executed yet.
    """
    records = executed_records(build, profile)
    if not records:
        raise CourseError(
            f"nothing is executed in {build}: `make run` (or python -m course_utils run) first"
        )
    folder = build / "site"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    shown = [lesson_page(name, notebook, record) for name, notebook, record in records]
    pages = [
        reference.home([page.page for page in shown], [record for *_, record in records]),
        *with_neighbours(shown),
        reference.glossary([page.page.name for page in shown]),
        reference.faq([record for *_, record in records]),
        reference.dos_and_donts(),
        reference.evidence([record for *_, record in records]),
        reference.teaching([page.page for page in shown], [record for *_, record in records]),
        reference.timings(),
        reference.benchmarks(),
    ]
    for page in pages:
        write_page(folder, page, pages)
    for one, (name, notebook, _) in zip(shown, records, strict=True):
        slides = folder / f"slides-{name}.html"
        slides.write_text(deck(name, one.page.title, notebook), encoding="utf-8")
    for file in STATIC.iterdir():
        shutil.copy(file, folder)
    index = [entry for page in pages for entry in page.entries]
    (folder / "search-index.js").write_text(
        f"window.SEARCH_INDEX = {json.dumps(index, ensure_ascii=False)};\n", encoding="utf-8"
    )
    for name, _, _ in records:  # to download
        known = [lesson for lesson in lessons() if lesson.name == name]
        for lesson in known:
            shutil.copy(lesson.learner, folder / f"{name}.ipynb")
    return folder / "index.html"


def executed_records(
    build: Path, profile: str
) -> list[tuple[str, nbformat.NotebookNode, dict]]:  # fmt: skip
    """Name, executed notebook and record of each lesson that was executed, in order."""
    folder = executed_folder(build, profile)
    found = []
    for file in sorted(folder.glob("[0-9][0-9]_*.json")):
        notebook = file.with_suffix(".ipynb")
        if notebook.is_file():
            record = json.loads(file.read_text(encoding="utf-8"))
            found.append((file.stem, nbformat.read(notebook, as_version=4), record))
    return found


def with_neighbours(shown: list[LessonPage]) -> list[Page]:
    """The pages of the lessons, each with a way to the one before and after."""
    pages = [one.page for one in shown]
    for before, page, after in zip([None, *pages], pages, [*pages[1:], None], strict=False):
        page.before, page.after = before, after
    return pages
