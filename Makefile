# `make run` and `make test` need nothing but Python >= 3.11, git and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1

# of `make ui`
HOST := 127.0.0.1
PORT := 4200
WORKERS := 4

# of the tests: a process for each core; one that is done takes over what waits at another
SIDE_BY_SIDE := --numprocesses logical --dist worksteal

.PHONY: run ui test test-slow check setup clean
.DEFAULT_GOAL := run

run: setup ## set up, run the pipeline, print the summary
	@csd run

ui: setup ## scheduled retraining: server, deployments, worker, reports; Ctrl-C stops everything
	@csd ui --host "$(HOST)" --port "$(PORT)" --workers "$(WORKERS)"

test: setup ## the tests
	@pytest $(SIDE_BY_SIDE)

test-slow: setup ## the tests that take minutes
	@pytest -m slow $(SIDE_BY_SIDE)

check: setup ## static: format, lint, types, import contracts, the stages' graph
	@ruff format --check
	@ruff check
	@mypy
	@lint-imports
	@dvc dag > /dev/null && echo "dvc dag: the stages fit together"

setup: $(INSTALLED)
	@if [ -e .git ]; then \
		dvc config --local --unset core.no_scm 2> /dev/null || true; \
	elif ! grep -qs no_scm .dvc/config.local; then \
		dvc config --local core.no_scm true; \
		echo "No git here: the pipeline runs, but dvc exp, dvc metrics diff and history need a git repository."; \
	fi

$(INSTALLED): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "csd needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (minutes, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[flows,serve,dev]'
	@touch $@

clean: ## remove artefacts and the environment; DVC's cache stays
	rm -rf $(VENV) data/sources data/shards data/seen artifacts report .csd
