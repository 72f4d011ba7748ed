"""JupyterHub as a workshop starts it: a password for the room, the notebooks, a kernel."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from browser import browser, chromium

from course_utils.assets import ROOT
from course_utils.notebooks import lessons

CONFIG = ROOT / "deploy" / "jupyterhub_config.py"
PASSWORD = "a room full of learners"
pytestmark = pytest.mark.slow
pytest.importorskip("jupyterhub", reason="needs the extra hub")


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG), *more]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The address of a running hub and the folder that it writes to."""
    chromium()  # skip before anything is started
    folder = tmp_path_factory.mktemp("hub")
    address = f"http://127.0.0.1:{free_port()}"
    more = [f"--JupyterHub.hub_port={free_port()}", "--SimpleLocalProcessSpawner.args=--allow-root",
            f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{free_port()}"]  # fmt: skip
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen(
            command(*more), cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "COURSE_PASSWORD": PASSWORD, "COURSE_HUB_ADDRESS": address,
                 "COURSE_HUB_FOLDER": str(folder), "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/hub/login", timeout=5)
                break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail((folder / "log").read_text()[-2000:])
        yield address, folder
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def chrome():
    with browser() as running:
        yield running


def log_in(page, address: str, name: str, password: str) -> None:
    page.goto(f"{address}/hub/login")
    page.fill("#username_input", name)
    page.fill("#password_input", password)
    page.click("#login_submit")


def test_a_wrong_password_is_turned_away(hub, chrome):
    page = chrome.new_page()
    log_in(page, hub[0], "ada", "a guess that is wrong")
    page.wait_for_selector("text=Invalid username or password")
    assert not (hub[1] / "homes").exists()
    page.close()


def test_each_learner_gets_the_notebooks_and_a_kernel_that_has_the_course(hub, chrome):
    address, folder = hub
    for name in ("ada", "grace"):
        context = chrome.new_context()
        page = context.new_page()
        log_in(page, address, name, PASSWORD)
        page.wait_for_url(re.compile(rf"/user/{name}/lab"), timeout=180_000, wait_until="commit")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=180_000)  # the first lesson
        home = folder / "homes" / name
        found = {path.name for path in (home / "notebooks").glob("*.ipynb")}
        assert found == {f"{lesson.name}.ipynb" for lesson in lessons()}
        kernel = "api/kernels"  # computing, through the hub and its proxy
        made = page.request.post(f"{address}/user/{name}/{kernel}", headers=xsrf(context, name))
        assert made.status == 201, made.text()
        assert said(page, address, name, made.json()["id"]) == str(home / "journal.jsonl")
        context.close()


def xsrf(context, name: str) -> dict[str, str]:
    """The header without which a server takes no orders."""
    tokens = {each["path"]: each["value"] for each in context.cookies() if each["name"] == "_xsrf"}
    return {"X-XSRFToken": tokens[f"/user/{name}/"]}


def said(page, address: str, name: str, kernel: str) -> str:
    """What a cell prints about where the course writes a learner's progress."""
    code = "from course_utils.journal import journal_file; print(journal_file())"
    message = {
        "header": {"msg_id": "m", "username": name, "session": "s", "version": "5.3",
                   "msg_type": "execute_request", "date": ""},
        "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
        "content": {"code": code, "silent": False, "store_history": False,
                    "user_expressions": {}, "allow_stdin": False, "stop_on_error": True},
    }  # fmt: skip
    url = f"{address.replace('http', 'ws')}/user/{name}/api/kernels/{kernel}/channels"
    return page.evaluate(
        """([url, message]) => new Promise((resolve, reject) => {
            const socket = new WebSocket(url);
            setTimeout(() => reject(new Error("no answer")), 90000);
            socket.onopen = () => socket.send(message);
            socket.onmessage = (event) => {
                const answer = JSON.parse(event.data);
                if (answer.msg_type === "stream") resolve(answer.content.text.trim());
                if (answer.msg_type === "error") reject(new Error(answer.content.evalue));
            };
        })""",
        [url, json.dumps(message)],
    )


def test_what_a_learner_has_changed_is_not_overwritten(tmp_path):
    """The hook alone: the notebooks that are there stay, those that lack come."""
    config: dict = {"get_config": lambda: _Anything(), "__file__": str(CONFIG)}
    before = os.environ.get("COURSE_PASSWORD"), os.environ.get("COURSE_HUB_FOLDER")
    os.environ.update(COURSE_PASSWORD=PASSWORD, COURSE_HUB_FOLDER=str(tmp_path))
    try:
        exec(compile(CONFIG.read_text(encoding="utf-8"), str(CONFIG), "exec"), config)
    finally:
        for name, value in zip(("COURSE_PASSWORD", "COURSE_HUB_FOLDER"), before, strict=True):
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    spawner = _Anything()
    spawner.user.name, spawner.environment = "ada", {}
    own = tmp_path / "homes" / "ada" / "notebooks" / f"{lessons()[0].name}.ipynb"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    config["bring_notebooks"](spawner)
    assert own.read_text() == "mine"
    assert len(list(own.parent.glob("*.ipynb"))) == len(lessons())
    assert Path(spawner.environment["COURSE_JOURNAL"]).parent == own.parent.parent


class _Anything:
    """Takes any attribute, as JupyterHub's configuration does."""

    def __getattr__(self, name: str) -> "_Anything":
        made = _Anything()
        setattr(self, name, made)
        return made


@pytest.mark.parametrize("password", ["", "short"])
def test_without_a_good_password_it_does_not_start(tmp_path, password):
    env = {**os.environ, "COURSE_PASSWORD": password, "COURSE_HUB_FOLDER": str(tmp_path / "hub")}
    run = subprocess.run(command(), env=env, capture_output=True, text=True, timeout=120)
    assert run.returncode != 0 and "set it to 8 or more" in run.stdout + run.stderr
    assert not (tmp_path / "hub").exists()
