# One command each; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: help setup demo check test figures clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/.sim: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[sim]'
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[sim,real,dev]'
	touch $@ $(VENV)/.sim

setup: $(VENV)/.all ## make .venv with everything: simulation, real backend, development tools

demo: $(VENV)/.sim ## five policies on Azure-like traffic: table, CDF picture, report (no torch needed)
	$(BIN)/python -m experiments.compare experiment=demo

check: setup ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## the test suite
	$(BIN)/python -m pytest -n auto

figures: $(VENV)/.sim ## regenerate the paper's figures
	$(BIN)/python -m paper_figures all

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
