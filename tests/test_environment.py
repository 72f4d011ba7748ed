"""One environment in three files that agree, and a tree that is light and names no place."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from course_utils.assets import ROOT

PYTHONS = ("3.11.9", "3.12.4", "3.13.1")
SYSTEMS = {"linux": ("Linux", "posix"), "darwin": ("Darwin", "posix")}


def parsed(lines) -> dict[str, Requirement]:
    found = {}
    for line in lines:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is listed twice"
        found[name] = requirement
    return found


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def conda() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    lines = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    return [Requirement(line) for line in lines]


def wanted(project: dict, *extras: str) -> dict[str, Requirement]:
    lists = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    return parsed(line for lines in lists for line in lines)


def conda_parts(conda: dict) -> tuple[dict[str, Requirement], dict[str, Requirement]]:
    """What conda installs, and what pip does within its environment."""
    plain = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    nested = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    return parsed(plain), parsed(line for lines in nested for line in lines)


def test_conda_names_the_same_packages_and_ranges_as_pyproject(project, conda):
    by_conda, by_pip = conda_parts(conda)
    assert set(by_conda) & set(by_pip) == set()
    given = {name: r.specifier for name, r in {**by_conda, **by_pip}.items()}
    assert given.pop("python") == SpecifierSet(project["requires-python"])
    assert given.pop("pip") == SpecifierSet()
    needed = {name: r.specifier for name, r in wanted(project, "dev").items()}
    assert {name: given.get(name) for name in needed} == needed
    everything = {name: r.specifier for name, r in wanted(project, "dev", "full", "bench").items()}
    assert given.items() <= everything.items(), "environment.yml names what pyproject does not"


def test_conda_takes_nothing_from_elsewhere(conda):
    assert conda["name"] == "finetuning-course"
    assert conda["channels"] == ["conda-forge"]


def environment(python: str, system: str) -> dict[str, str]:
    platform_system, os_name = SYSTEMS[system]
    return {
        **default_environment(), "python_full_version": python, "sys_platform": system,
        "python_version": ".".join(python.split(".")[:2]), "os_name": os_name,
        "platform_system": platform_system, "platform_machine": "x86_64",
    }  # fmt: skip


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_lock_holds_one_version_within_each_range(project, locked, python, system):
    assert SpecifierSet(project["requires-python"]).contains(python)
    pins: dict[str, list[str]] = {}
    for requirement in locked:
        if requirement.marker is None or requirement.marker.evaluate(environment(python, system)):
            (pin,) = requirement.specifier
            assert pin.operator == "==" and "*" not in pin.version, str(requirement)
            pins.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    assert [name for name, versions in pins.items() if len(versions) > 1] == []
    for name, requirement in wanted(project, "dev").items():
        assert name in pins, f"the lock lacks {name}"
        (version,) = pins[name]
        assert requirement.specifier.contains(version), f"{requirement}: the lock has {version}"


def test_the_lock_names_no_place_and_no_url(locked):
    assert all(requirement.url is None for requirement in locked)
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"^\s*--|://|@", text, re.MULTILINE)


def test_this_python_is_allowed(project):
    assert SpecifierSet(project["requires-python"]).contains(sys.version.split()[0])


# --- the tree -------------------------------------------------------------------------------

MB = 1_000_000


@pytest.fixture(scope="module")
def committed():
    """The files that git tracks and that are there, as (path, bytes)."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in done.stdout.split("\0") if name]
    return [(path, path.read_bytes()) for path in paths if path.is_file()]


def is_binary(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return b"\0" in content


# In parts, so that this file does not name them itself.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"), ("anaconda", "com"),
        ("download", "pytorch", "org"), ("registry", "npmjs"), ("pypi", "tuna"),
    )
]  # fmt: skip
FOLDERS = ("home", "Users", "root", "work")
HOME = re.compile(r"(?<![\w.:/~<>{}\-])/(?:" + "|".join(FOLDERS) + r")/\w")


def test_no_text_names_a_package_registry(committed):
    for path, content in committed:
        if not is_binary(content):
            text = content.decode("utf-8")
            named = [host for host in REGISTRIES if host in text]
            assert named == [], f"{path.name} names {named}"


def test_no_text_names_somebodys_folder(committed):
    for path, content in committed:
        if not is_binary(content):
            found = HOME.search(content.decode("utf-8"))
            assert found is None, f"{path.name}: {found and found.group(0)}…"


def test_the_pattern_of_folders_finds_them_and_nothing_else():
    for folder in FOLDERS:
        assert HOME.search(f'path = "/{folder}/me/data"') and HOME.search(f"/{folder}/x")
        for other in (f"https://example.com/{folder}/me", f"a/{folder}/b", f"/{folder}"):
            assert not HOME.search(other), other


def test_the_tree_is_light(committed):
    sizes = {path: len(content) for path, content in committed}
    largest = max(sizes, key=sizes.get)
    assert sizes[largest] < 25 * MB, f"{largest} has {sizes[largest] / MB:.0f} MB"
    assert sum(len(content) for _, content in committed if is_binary(content)) < 40 * MB
    assert sum(sizes.values()) < 60 * MB
