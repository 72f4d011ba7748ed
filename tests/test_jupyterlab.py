"""JupyterLab in a real browser: questions answer, dials move, exercises give their hints."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from browser import browser, chromium
from nbformat.v4 import new_code_cell, new_notebook

from course_utils.lessons import lesson_00
from course_utils.notebooks import find_lesson

CELLS = [
    "from course_utils import check, predict, quiz\nfrom course_utils.labs import lab",
    'predict("00.1")',
    'quiz("00")',
    'check("00.1", 15.7)',
    'check("00.1", 0.157)',
    'check("00.1", ...)',
    'lab("Add one", lambda x: f"the sum is {x + 1:g}", {"x": (0, 10, 1)}, [{"x": 2}])',
    "from course_utils import show_progress\nshow_progress()",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What JupyterLab may write to: a notebook with one of each kind, and lesson 00."""
    place = tmp_path_factory.mktemp("lab")
    cells = [new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, place / "each.ipynb")
    shutil.copy(find_lesson("00").learner, place / "lesson.ipynb")
    return place


@pytest.fixture(scope="module")
def lab(folder):
    """The address of a running JupyterLab."""
    chromium()  # skip before anything is started
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
         f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
         f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None",
         "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"],
        env={**os.environ, "JUPYTER_CONFIG_DIR": str(folder / "config"),
             "IPYTHONDIR": str(folder / "ipython"), "HF_HUB_OFFLINE": "1",
             "COURSE_JOURNAL": str(folder / "journal.jsonl")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            assert server.poll() is None, "JupyterLab ended at its start"
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def open_notebook(lab):
    """A function that opens a notebook, runs all its cells, and gives the page."""
    with browser() as running:

        def opened(name: str):
            # tall: JupyterLab takes what is out of sight from the page
            page = running.new_page(viewport={"width": 1300, "height": 2400})
            page.set_default_timeout(60_000)
            page.goto(f"{lab}/lab/tree/{name}?reset")
            page.wait_for_selector(".jp-Notebook .jp-CodeCell")
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
            begun = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[[\d*]+\]"))
            for _ in range(10):  # JupyterLab may drop the command while it still connects
                page.get_by_role("menuitem", name="Run", exact=True).click()
                page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
                page.wait_for_timeout(3000)
                if begun.count():
                    return page
            pytest.fail("JupyterLab does not run the cells")

        yield opened


@pytest.mark.slow
def test_questions_dials_and_exercises_answer_in_the_browser(open_notebook, folder):
    page = open_notebook("each.ipynb")
    outputs = page.locator(".jp-Notebook .jp-OutputArea-output")

    prediction = lesson_00.PREDICTIONS["1"]
    page.get_by_label(prediction.options[1], exact=True).first.check()
    page.get_by_text(f"You predict: {prediction.options[1]}").wait_for()

    question = lesson_00.QUIZ[0]
    for place, option in enumerate(question.options):
        page.get_by_label(option.text, exact=True).first.check()
        page.get_by_text(question.answer(place)).wait_for()

    page.get_by_text("Exercise 00.1: right!").wait_for()
    told = " ".join(outputs.all_inner_texts())
    assert "percent" in told and "not attempted yet" in told

    page.get_by_text("the sum is 3").wait_for()
    handle = page.locator(".noUi-handle").first
    handle.focus()
    handle.press("ArrowRight")
    page.get_by_text("the sum is 4").wait_for()

    page.get_by_text("Your progress").first.wait_for()
    page.get_by_role("link", name="Download your journal").wait_for()
    page.close()
    kept = (folder / "journal.jsonl").read_text(encoding="utf-8")
    assert kept.count('"kind": "quiz"') == len(question.options) and '"state": "right"' in kept


@pytest.mark.slow
def test_lesson_00_runs_to_its_end_and_its_claims_hold(open_notebook):
    page = open_notebook("lesson.ipynb")
    page.set_default_timeout(400_000)
    page.get_by_text("Your progress").first.wait_for()
    told = page.locator(".jp-Notebook").inner_text()
    assert "does NOT hold" not in told and "Traceback" not in told
    page.close()
