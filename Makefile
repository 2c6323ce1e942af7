# Everything runs from .venv, which is made once and brought up to date when pyproject.toml or requirements.lock change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO   := build/demo
PART   ?= xc7z020
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv demo demo-yolo demo-sam csim lint test test-full bench wheel clean

help:
	@echo "make demo       the whole job on the bundled models for PART=$(PART), YOLO and a tiny SAM: projects, C-simulation,"
	@echo "                verdicts, pictures (make demo-yolo, make demo-sam: one of them)"
	@echo "make csim       C-simulate $(DEMO) again"
	@echo "make test       ruff, mypy and the tests"
	@echo "make test-full  the same, with the long tests"
	@echo "make bench      the measurements in benchmarks/"
	@echo "make wheel      the wheel, in dist/"
	@echo "make clean      remove what was built (not .venv)"

$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[yolo,sam,dev]'
	@touch $(STAMP)

venv: $(STAMP)

demo: demo-yolo demo-sam

demo-yolo: $(STAMP)
	$(BIN)/hlsgen build yolo --weights demo --part $(PART) --out $(DEMO)

demo-sam: $(STAMP)
	$(BIN)/hlsgen build sam --weights demo --part $(PART) --out $(DEMO)-sam

csim: $(STAMP)
	@test -f $(DEMO)/manifest.json || { echo "there is no $(DEMO) yet: run make demo-yolo first" >&2; exit 2; }
	$(BIN)/hlsgen csim $(DEMO)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A worker that crashes ends the run: pytest-xdist 3.8 may wait forever after it has replaced one (its issues 784, 1323).
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --max-worker-restart 0

test: lint
	$(PYTEST)

test-full: lint
	$(PYTEST) --full

bench: $(STAMP)
	@test -f $(DEMO)/manifest.json || $(MAKE) --no-print-directory demo-yolo
	$(BIN)/python benchmarks/csim_ratio.py $(DEMO)
	$(BIN)/python benchmarks/sizes.py
	$(BIN)/python benchmarks/sam_accuracy.py

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
