# Every target does all its set-up: it needs Python (3.11 or newer), make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check setup lock clean

demo: setup  ## Train a deep Gaussian process on the digits, from nothing, in a minute.
	$(BIN)/distvi train digits

test: setup  ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist loadgroup

check: setup  ## Lint, format, types, import rules.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

setup: $(VENV)/.installed  ## Make the virtual environment with the pinned dependencies.

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

lock:  ## Pin the newest versions that pyproject.toml allows, with hashes, naming no index.
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/uv pip compile pyproject.toml --group dev --extra ray --universal --python-version 3.11 \
	  --upgrade --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
