"""A folder (or USB stick) that installs the course where the network is bad or absent.

It holds the course as it is in git, the wheels of the locked environment for this kind of machine
(operating system, processor, Python version), and a script that installs from them alone.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from course_utils.assets import ROOT
from course_utils.errors import CourseError

LOCK = ROOT / "requirements.lock"
INSTALL = """\
#!/bin/sh
# Installs the course from this folder, without a network:  sh install.sh [where]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
where=${{1:-"$HOME/finetuning-course"}}
{python} -c 'import sys; sys.exit(sys.version_info[:2] != ({major}, {minor}) and
"this pack was made for Python {major}.{minor}; install that version first")'
mkdir -p "$where"
cp -R "$here/course/." "$where"
cd "$where"
{python} -m venv .venv
pip=".venv/bin/python -m pip --disable-pip-version-check install --quiet --no-index"
$pip --find-links "$here/wheels" -r "$here/requirements.lock"
$pip --no-deps --no-build-isolation --editable .
touch .venv/installed
echo "Installed in $where. Now:  cd $where && make doctor && make lab"
"""


def pack(folder: Path, lock: Path = LOCK) -> int:
    """Fill a new or empty folder; returns its size in bytes.

    Args:
        folder: where to; a USB stick's folder will do.
        lock: the packages to bring, a requirements file.

    Raises:
        CourseError: the folder is not empty, this is no git checkout, or pip cannot get a wheel.
    """
    if folder.exists() and any(folder.iterdir()):
        raise CourseError(f"{folder} is not empty: name a new folder, so that nothing is mixed up")
    folder.mkdir(parents=True, exist_ok=True)
    copy_course(folder / "course")
    shutil.copy(lock, folder / "requirements.lock")
    download = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "download",
        "--only-binary=:all:", "--dest", str(folder / "wheels"), "--requirement", str(lock),
    ]  # fmt: skip
    if subprocess.run([*download, "--quiet"]).returncode:
        raise CourseError(
            f"pip could not get all wheels of {lock.name} (its message is above); the folder "
            f"{folder} is incomplete: remove it and try again with a network"
        )
    version = sys.version_info
    script = INSTALL.format(
        python=f"python{version.major}.{version.minor}", major=version.major, minor=version.minor
    )
    (folder / "install.sh").write_text(script, encoding="utf-8")
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def copy_course(target: Path) -> None:
    """Copy the files that git knows, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )  # fmt: skip
    if listed.returncode:
        raise CourseError(f"{ROOT} is no git checkout: git clone the course and pack from there")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():  # not one that was deleted but not yet committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
