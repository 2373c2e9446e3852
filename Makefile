# Everything that one does with a checkout of Carbon Track. `make` alone prints the list.

PYTHON ?= python3
EXAMPLES ?= 100
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links

# Bytecode is kept: without it every start of Python compiles Carbon Track anew, and the tests start it often.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install dev demo test check site words pictures firmware chaos explore format bench lock audit clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed ## Install Carbon Track into .venv (PYTHON=python3.13 picks another Python)

dev: $(VENV)/installed-dev ## Install what the tests and the checks need as well

demo: install ## Run the whole platform with a simulated fleet (ARGS="..." are passed on)
	$(BIN)/carbontrack demo $(ARGS)

test: check ## Run the checks and then the tests (ARGS="..." go to pytest)
	$(BIN)/pytest --numprocesses=3 --dist=worksteal $(ARGS)  # for two cores: a third of the time goes into waiting

check: dev ## Check format, lint, types, the direction of imports, and the documentation's links
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache  # its cache overlooks new packages
	@$(MAKE) --no-print-directory site

site: dev ## Build the documentation as a site into build/site, without a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet  # its warning is about a future version of itself

format: dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

words: dev ## Gather the texts of the pages for translation (ARGS=--check only says what is missing)
	$(BIN)/python scripts/words.py $(ARGS)

pictures: dev ## Take the documents' pictures anew, of a running demo (some minutes)
	CARBONTRACK_PICTURES=docs/images $(BIN)/pytest tests/test_pictures.py -k taken_of

firmware: ## Build the node's firmware for this machine and run its tests, plainly and with sanitizers
	cmake -S firmware -B firmware/build/release -DCMAKE_BUILD_TYPE=MinSizeRel
	cmake --build firmware/build/release --parallel 2
	ctest --test-dir firmware/build/release --output-on-failure
	cmake -S firmware -B firmware/build/sanitized -DCMAKE_BUILD_TYPE=Debug -DSANITIZE=ON
	cmake --build firmware/build/sanitized --parallel 2
	ctest --test-dir firmware/build/sanitized --output-on-failure

chaos: dev ## Kill, cut and fill up everything, and count what is lost (ARGS="--short", ARGS="--seed 7", ...)
	$(BIN)/python -m tests.chaos $(ARGS)

explore: dev ## Send the API far more of what it does not expect than the tests do (EXAMPLES=100, ARGS="...")
	CARBONTRACK_EXAMPLES=$(EXAMPLES) $(BIN)/pytest --numprocesses=2 tests/test_schemathesis.py tests/test_rubbish.py $(ARGS)

bench: dev ## Measure what the documentation claims (ARGS="..." are passed on)
	$(BIN)/python -m benchmarks $(ARGS)

lock: dev ## Write the lock files anew from pyproject.toml (ARGS=--upgrade takes newer versions)
	$(LOCK) $(ARGS) --group build --output-file requirements.lock
	$(LOCK) $(ARGS) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	@! grep -nE '://|^-' requirements.lock requirements-dev.lock || { echo 'The lock files name a place; they must not.'; exit 1; }

audit: dev ## Ask the advisory database about every locked package (needs the internet)
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

clean: ## Remove .venv and everything that tools left behind
	rm -rf $(VENV) firmware/build build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that arrives in a new environment: where it is, the environment is whole.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Carbon Track needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
		echo "Name another one: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "On Debian and Ubuntu the environment needs a package: apt install python3-venv"; exit 1; }

# Stamps: what is installed already costs nothing the next time.
$(VENV)/installed: requirements.lock pyproject.toml | $(BIN)/pip
	@echo "Installing Carbon Track into $(VENV) ..."
	@$(PIP_INSTALL) --require-hashes --requirement requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock $(VENV)/installed
	@echo "Installing the tools for tests and checks ..."
	@$(PIP_INSTALL) --require-hashes --requirement requirements-dev.lock
	@touch $@
