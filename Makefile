.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
MODEL ?= stabilityai/stable-diffusion-3.5-large-turbo
JUDGE ?= llama-4-maverick
OUT ?= runs/paper
EVIDENCE ?= runs/evidence
WORKERS ?= 2
SECONDS ?= 3600
COMFYUI_PYTHON ?= python3
SLOW ?= benchmarks/results/slow.txt
DRAWN = --seeds 1 --workers $(WORKERS) --threads 1

help: ## Show these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

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

test-slow: setup ## Run the slow checks (kill -9, Ray, compile, browser) and keep what came of them
	$(BIN)/pip install --quiet -c constraints.txt -e '.[browser]'
	set -o pipefail; $(BIN)/python -m pytest -vv --no-header --disable-warnings --durations 0 --durations-min 1 -m slow | tee $(SLOW)

test-triton: setup ## Run the fused kernels in Triton's interpreter (1 GB to install)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[triton]'
	OMP_NUM_THREADS=1 TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/attention/test_triton_kernels.py tests/guidance/test_apply.py

test-families: setup ## Run every pipeline of every model family, and quantised weights
	$(BIN)/pip install --quiet -c constraints.txt -e '.[quantised]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m families

test-diffusers: .venv-oldest/.done .venv-newest/.done ## Run the tests on the oldest and the newest diffusers allowed
	for each in oldest newest; do OMP_NUM_THREADS=1 .venv-$$each/bin/python -m pytest -n auto --dist loadfile || exit; done

.venv-oldest/.done: DIFFUSERS := $(shell sed -n 's/.*"diffusers>=\(.*\)".*/diffusers==\1/p' pyproject.toml)
.venv-newest/.done: DIFFUSERS := diffusers
.venv-oldest/.done .venv-newest/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	grep -v '^diffusers==' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/pip install --quiet -c $(@D)/constraints.txt torch
	$(@D)/bin/pip install --quiet -c $(@D)/constraints.txt -e '.[diffusers,bench,ray,video,dev]' $(DIFFUSERS)
	touch $@

suites: setup ## Write the tiny suites anew from the grammar
	$(BIN)/python benchmarks/tiny/tiny_suites.py

bench-paper: setup ## Repeat the paper's table: MODEL=, JUDGE=, PRICE=, OUT= (docs/how-to/repeat-the-paper.md)
	$(BIN)/vsf bench run --suite essential-test --model $(MODEL) --methods benchmarks/plans/paper.toml --seeds 2 --size 1024 --out $(OUT)
	$(BIN)/vsf bench judge --judge openai --judge-model $(JUDGE) $(if $(PRICE),--price $(PRICE)) --out $(OUT)
	$(BIN)/vsf bench report $(OUT)

bench-speed: setup ## Time guidance on this machine: AGAINST= (the src folder of another checkout), SECONDS=
	$(BIN)/python benchmarks/speed.py --seconds $(SECONDS) $(if $(AGAINST),--against $(AGAINST))

evidence: setup ## Repeat the benchmark on the embedded models: WORKERS=, EVIDENCE= (a folder)
	$(BIN)/vsf bench sweep --suite tiny-dev --prompts 100 $(DRAWN) --methods benchmarks/plans/tiny-curves.toml --frontier 20 --keep 6 --kept 0.9 --out $(EVIDENCE)/dev
	$(BIN)/vsf bench run --suite tiny-dev --prompts 100 $(DRAWN) --methods benchmarks/plans/tiny-rows.toml --out $(EVIDENCE)/dev
	$(BIN)/vsf bench run --suite tiny-test --prompts 200 $(DRAWN) --methods $(EVIDENCE)/dev/frozen.json --out $(EVIDENCE)/test
	$(BIN)/vsf bench run --suite tiny-test --prompts 200 $(DRAWN) --methods benchmarks/plans/tiny-rows.toml --out $(EVIDENCE)/test
	$(BIN)/vsf bench run --suite tiny-test --prompts 1000 $(DRAWN) --methods $(EVIDENCE)/dev/matched.json --out $(EVIDENCE)/test
	$(BIN)/vsf bench run --suite tiny-test --prompts 100 $(DRAWN) --methods benchmarks/plans/tiny-ablations.toml --out $(EVIDENCE)/ablations
	for each in dev test ablations; do $(BIN)/vsf bench judge --workers $(WORKERS) --out $(EVIDENCE)/$$each || exit; done
	$(BIN)/vsf bench report $(EVIDENCE)/test --dev $(EVIDENCE)/dev --reference "VSF in context, offset -0.5"
	$(BIN)/vsf bench report $(EVIDENCE)/ablations

test-comfyui: ## Run the node pack on the ComfyUI at COMFYUI_PATH= with its Python, COMFYUI_PYTHON= (docs/comfyui.md)
	COMFYUI_TABLE=1 OMP_NUM_THREADS=1 PYTHONPATH=src $(COMFYUI_PYTHON) -m pytest tests/comfyui $(if $(SLOW_TOO),-m 'slow or not slow')

check: setup ## Lint, format, types, import order
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: help setup demo test test-slow test-triton test-families test-diffusers suites bench-paper bench-speed evidence test-comfyui check
