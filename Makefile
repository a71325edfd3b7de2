# Everything runs in one virtual environment that the first target to need it creates.
PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= data,hf,log,eval,dev
WORKERS ?= 2
MARK ?= not slow and not heavy
TESTS ?= tests

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCRIPTS = $(shell git ls-files '*.sh' '*.sbatch' 2>/dev/null) .ci/run

# Corpora and reference numbers beside the checkout are used when they are there and nothing else is named.
ifneq ($(wildcard ../shared/data),)
export EBM_JAX_DATA ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/parity),)
export EBM_JAX_PARITY_DIR ?= $(abspath ../shared/parity)
endif
ifneq ($(wildcard ../shared/parity/hf),)
export EBM_JAX_HF_DIR ?= $(abspath ../shared/parity/hf)
endif

# A model this small keeps one core busy; as two devices of one mesh, two cores share the batch. Accelerators ignore it.
TWO_DEVICES := --xla_force_host_platform_device_count=2

.DEFAULT_GOAL := help
.PHONY: help install demo test slow lint format types check peers clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

install: $(STAMP) ## create the virtual environment and install the package with its extras, once

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]" --constraint constraints.txt
	@touch $@

demo: $(STAMP) ## train Transformer++ and two EBTs on the standard library's source and write runs/demo/report.html
	XLA_FLAGS="$(XLA_FLAGS) $(TWO_DEVICES)" $(BIN)/python -m experiments.demo

test: $(STAMP) ## the default tests
	$(BIN)/python -m pytest $(TESTS) -m "$(MARK)" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

slow: $(STAMP) ## the default tests and the slow ones
	$(MAKE) test MARK="not heavy"

lint: $(STAMP) ## ruff (rules and layout) and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck $(SCRIPTS)

format: $(STAMP) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy
	$(BIN)/mypy

check: lint types test ## all of it: lint, types and tests

peers: $(STAMP) ## add torch and transformers, which only comparisons and export tests use
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS),peers]" --constraint constraints.txt

clean: ## remove the environment and every cache, but no runs and no prepared data
	rm -rf $(VENV) .jax_cache .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
