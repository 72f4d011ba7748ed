"""The pack of a workshop installs with the network off."""

import os
import subprocess
import sys

import pytest

from course_utils import pack as module
from course_utils.errors import CourseError
from course_utils.pack import pack


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CourseError, match="is not empty"):
        pack(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_outside_of_git_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(module, "ROOT", tmp_path / "elsewhere")
    with pytest.raises(CourseError, match="no git checkout"):
        pack(tmp_path / "new")


def test_wheels_that_cannot_be_had_are_an_error(tmp_path, capfd):
    lock = tmp_path / "requirements.lock"
    lock.write_text("no-such-package-of-this-course==99.9\n")
    with pytest.raises(CourseError, match="incomplete"):
        pack(tmp_path / "new", lock)
    assert not (tmp_path / "new" / "install.sh").exists()


@pytest.mark.slow
def test_a_small_pack_installs_without_a_network(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("setuptools>=77\ncolorlog\n")
    try:
        size = pack(tmp_path / "stick", lock)
    except CourseError:
        pytest.skip("no package index can be reached from here")
    assert size > 30e6, "the course with its embedded models"
    nowhere = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "ALL_PROXY")}
    where = tmp_path / "home" / "course"
    folder = os.path.dirname(os.path.realpath(sys.executable))
    ran = subprocess.run(
        ["sh", tmp_path / "stick" / "install.sh", where], capture_output=True, text=True,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path), **nowhere},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "make doctor" in ran.stdout
    program = "import colorlog, course_utils; print(course_utils.__file__)"
    said = subprocess.run([where / ".venv/bin/python", "-c", program], capture_output=True,
                          text=True, cwd=tmp_path)  # fmt: skip
    assert said.stdout.startswith(str(where / "course_utils")), said.stderr
