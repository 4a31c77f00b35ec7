# Every command of this project. `make` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help install run demo test check bench browser clean

help:  ## List the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export]'
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[export,test,dev]'
	@touch $@

install: $(VENV)/installed  ## Install Fovea into .venv

run: install  ## Open the chat on http://127.0.0.1:7860 with a sample photograph at hand
	$(BIN)/fovea serve --open

demo: install  ## Print a draft report on the sample photograph, no browser needed
	$(BIN)/fovea demo

test: $(VENV)/installed-test browser  ## Run the whole test suite, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

browser:  # Debian's Chromium for the page tests; they are skipped with a reason where it is absent
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || echo "Chromium is absent: the page tests will be skipped"

check: $(VENV)/installed-test  ## Lint, types, import rules, knowledge base, plugins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fovea knowledge check

bench: install  ## Measure speed, as ratios within one run
	$(BIN)/python benchmarks/turn_speed.py
	$(BIN)/python benchmarks/vision_speed.py

clean:  ## Remove what was built
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
