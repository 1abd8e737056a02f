# Everything here needs Python >= 3.11, make and a package index. It is installed into .venv, which is made once
# and renewed when the dependencies change.

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready

# The first Python that is new enough; `make PYTHON=/path/to/python3.12 test` to choose another.
IS_NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$name $(IS_NEW_ENOUGH) 2>/dev/null && { echo $$name; break; }; done)

# Keep freed memory: glibc would return every large activation to the system and fault it in again.
export MALLOC_MMAP_THRESHOLD_ ?= 4294967296
export MALLOC_TRIM_THRESHOLD_ ?= 17179869184
# Let waiting OpenMP threads sleep: where another process wants a core, spinning costs ten times the work.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup weights compare test coverage test-slow lint types docs train ship clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY) ## Make .venv, or renew it if the dependencies changed

# facexlib, which pyiqa needs, brings opencv-python. It writes into the same folder as the headless build and
# needs libGL, so the headless build is written last. gradio asks for Pillow below 13, with which it runs too.
$(READY): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) $(IS_NEW_ENOUGH) 2>/dev/null || \
		{ echo "error: Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	$(BIN)/pip install --quiet -c constraints.txt --no-deps --force-reinstall opencv-python-headless
	$(BIN)/pip install --quiet -c constraints.txt --no-deps gradio
	@touch $@

weights: $(READY)
	$(BIN)/opera-env weights fetch lpips

compare: weights ## Compare agents: tables and a picture sheet; options in ARGS="--n 24 --regret"
	$(BIN)/opera-env compare $(ARGS)

# One process a core, four at most: each needs about 2 GB. ARGS="-n 0" runs the tests in one process.
PARALLEL := -n logical --maxprocesses 4 --dist worksteal

test: weights ## Run the tests; options in ARGS="-k plan"
	$(BIN)/pytest -m "not slow" $(PARALLEL) $(ARGS)

coverage: weights ## Run the tests and show the lines and branches that they leave out
	$(BIN)/pytest -m "not slow" $(PARALLEL) --cov --cov-report=term $(ARGS)

# Exit code 5 is pytest's "no tests collected".
test-slow: weights ## Run the longer tests
	$(BIN)/pytest -m slow $(PARALLEL) $(ARGS) || test $$? -eq 5

lint: $(READY) ## Check style and who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(READY) ## Check types
	$(BIN)/pyright

docs: $(READY) ## Build the documentation site in build/site; a warning is an error
	$(BIN)/sphinx-build -c docs -b html -d build/doctrees -W --keep-going --quiet . build/site

# Two processes with one thread each use two cores best. The hours of each stage are printed at the end.
STAGES ?= all
TRAIN := OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -f scripts/train.mk -j 2

train: weights ## Train everything that ships: IMAGES="DIR DIR" VAL=DIR; QUICK=1 for a toy run; STAGES=real for real photographs
	$(TRAIN) $(STAGES)

ship: weights ## Copy what `make train` made into the packages, with the same variables
	$(TRAIN) ship

clean: ## Remove caches and builds; .venv stays
	rm -rf build dist .coverage .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
