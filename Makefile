# All set-up happens here: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
# Everything is installed into .venv; nothing outside this folder is touched.

PYTHON ?= python3
# Empty (make demo CONSTRAINTS=): no pins, so pip takes the newest torch your index offers.
CONSTRAINTS ?= constraints.txt
# More options for `changen generate`, e.g. make demo ARGS="--limit 1 --steps 1"
ARGS ?=
WORKERS ?= 2
MINUTES ?= 10

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install $(if $(strip $(CONSTRAINTS)),-c $(CONSTRAINTS))
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PACKAGE_FILES := pyproject.toml $(strip $(CONSTRAINTS))

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-slow test-cluster test-gpu test-browser fuzz check docs docs-check bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.installed ## Install changen into .venv

setup-dev: $(VENV)/.installed-dev ## Install changen and the tools for tests and checks into .venv

demo: $(VENV)/.installed ## Make a small dataset from the bundled sample
	$(BIN)/changen generate --input changen_cli/data/sample --steps 3 --res 1024 \
		--output demo-output --overwrite $(ARGS)
	@echo
	@echo "Look at  demo-output/preview.png        (all dates, masks and the largest changes)"
	@echo "Images   demo-output/train/images/      (one per date; masks/, changes/ and events/ beside it)"

test: $(VENV)/.installed-dev ## Run the tests that need neither a GPU nor long
	$(PYTEST) -n $(WORKERS)

test-slow: $(VENV)/.installed-dev ## Run the tests marked slow
	$(PYTEST) -m slow

test-cluster: $(VENV)/.installed-dev ## Run the tests that start a Ray cluster on this machine
	$(PYTEST) -m cluster -rs

test-gpu: $(VENV)/.installed-dev ## Run the tests that need a CUDA device
	$(PYTEST) -m gpu -rs

test-browser: $(VENV)/.installed-dev ## Run the tests that need Chromium (apt install chromium)
	$(PIP) -e '.[dev,browser]'
	$(PYTEST) -m browser -rs

fuzz: $(VENV)/.installed-dev ## Try the parsers with new inputs for MINUTES (10)
	OMP_NUM_THREADS=1 $(BIN)/python tools/fuzz.py $(MINUTES)

check: $(VENV)/.installed-dev docs-check ## Lint, formatting, types, and whether pages from the code are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed ## Write the pages that come from the code, and build the site: site/index.html
	@for page in cli error api; do $(BIN)/python tools/$${page}_reference.py || exit 1; done
	$(PIP) -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean
	@echo "Look at  site/index.html"

docs-check: $(VENV)/.installed
	@for page in cli error api; do $(BIN)/python tools/$${page}_reference.py --check || exit 1; done

bench: $(VENV)/.installed ## Run the benchmarks
	@for file in benchmarks/*.py; do echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file || exit 1; done

clean: ## Remove what these targets made: .venv, demo-output, site, caches
	rm -rf $(VENV) demo-output site build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/bin/python:
	@command -v "$(PYTHON)" >/dev/null || { \
		echo "$(PYTHON) was not found. changen needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$("$(PYTHON)" -V). changen needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.installed: $(PACKAGE_FILES) | $(VENV)/bin/python
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(PACKAGE_FILES) | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	@touch $(VENV)/.installed $@
