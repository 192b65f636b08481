.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

help: ## Show these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.done ## Install everything into .venv (once)

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[diffusers,dev]'
	touch $@

demo: setup ## Generate the same scene without and with a negative prompt
	$(BIN)/python examples/demo.py

test: setup ## Run the tests
	$(BIN)/python -m pytest

test-slow: setup ## Run the slow checks too
	$(BIN)/python -m pytest -m 'slow or not slow'

check: setup ## Lint, format, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: help setup demo test test-slow check
