# Two commands: `make run` executes the course, `make test` checks it. Both install what is
# needed the first time (into .venv, from requirements.lock) and nothing after that.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed
LESSON ?=
PROFILE ?= quick
# One file or notebook a worker: two at a time, each on one core, beats one on two.
PARALLEL := --numprocesses 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install run site test full lab check build doctor lock clean

help:  ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## create .venv with the locked environment

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked environment into .venv (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

run: $(STAMP)  ## execute every lesson (or LESSON=11) and check its claims
	@$(BIN)/python -m course_utils run $(LESSON) --profile $(PROFILE)

site: $(STAMP)  ## build the website from the lessons that have been executed
	@$(BIN)/python -m course_utils site --profile $(PROFILE)

test: $(STAMP)  ## the whole test suite
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not notebook and not full" $(PARALLEL)
	@OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/tests/offline $(BIN)/python -m pytest -m "notebook or not slow" $(PARALLEL) \
		--nbval-lax --nbval-cell-timeout 600 notebooks/*.ipynb tests/test_execution.py

full: $(STAMP)  ## the code of every lesson's profile full, on the mirror of public data
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/test_full_lessons.py

lab: $(STAMP)  ## open the first lesson in JupyterLab
	@$(BIN)/jupyter lab notebooks/00_start_here.ipynb

check: $(STAMP)  ## lint, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m course_utils build --check

build: $(STAMP)  ## build the notebooks from notebooks/src
	@$(BIN)/python -m course_utils build

doctor: $(STAMP)  ## look at this machine and say what to do
	@$(BIN)/python -m course_utils doctor

lock: $(STAMP)  ## choose the newest versions that work together, for maintainers
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate --upgrade --extra dev --extra full --extra bench --extra hub pyproject.toml -o requirements.lock

clean:  ## remove what was built (not .venv)
	@rm -rf build
