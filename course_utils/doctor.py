"""Look at this machine and say what, if anything, to do before a lesson runs."""

import importlib.metadata
import shutil
import sys
import tomllib

from packaging.requirements import Requirement

from course_utils.assets import DATA, ROOT, embedded, read_manifest
from course_utils.device import choose_compute
from course_utils.errors import CourseError

MIN_FREE_GB = 2.0
MIN_MEMORY_GB = 3.0


def requirements() -> list[Requirement]:
    """What pyproject.toml asks for, with the allowed ranges."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]


def check_versions() -> list[tuple[str, str]]:
    """Problems with installed packages as (what, what to do)."""
    problems = []
    for requirement in requirements():
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append((f"{requirement.name} is not installed", "make install"))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                (f"{requirement.name} {version} is outside {requirement.specifier}", "make install")
            )
    return problems


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
