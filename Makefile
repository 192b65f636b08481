.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
MODEL ?= stabilityai/stable-diffusion-3.5-large-turbo
JUDGE ?= llama-4-maverick
OUT ?= runs/paper

help: ## Show these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.done ## Install everything into .venv (once)

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[diffusers,bench,ray,video,dev]'
	touch $@

demo: setup ## Generate the same scene without and with a negative prompt
	$(BIN)/python examples/demo.py

test: setup ## Run the tests, one process for each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup ## Run the slow checks too
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m 'slow or not slow and not families'

test-families: setup ## Run every pipeline of every model family, and quantised weights
	$(BIN)/pip install --quiet -c constraints.txt -e '.[quantised]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m families

suites: setup ## Write the tiny suites anew from the grammar
	$(BIN)/python -m vsf.bench.tiny_suites

bench-paper: setup ## Repeat the paper's table: MODEL=, JUDGE= (an OpenAI-compatible vision model), OUT=
	$(BIN)/vsf bench run --suite essential-test --model $(MODEL) --methods benchmarks/plans/paper.toml --seeds 2 --size 1024 --out $(OUT)
	$(BIN)/vsf bench judge --judge openai --judge-model $(JUDGE) --out $(OUT)
	$(BIN)/vsf bench report $(OUT)

check: setup ## Lint, format, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: help setup demo test test-slow test-families suites bench-paper check
