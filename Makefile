# Two commands do everything: `make demo` and `make test`. Both set themselves up in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
INPUTS := pyproject.toml constraints.txt

.PHONY: demo test test-sentence-transformers soak lint format clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo  ## the whole thing on one machine; ARGS=--once to exit after the summary
	$(BIN)/streamer demo $(ARGS)

test: $(VENV)/.dev  ## the whole test suite; ARGS are passed to pytest
	$(BIN)/python -m pytest $(ARGS)

test-sentence-transformers: $(VENV)/.dev  ## its adapter on the real package, which brings torch: gigabytes
	$(PIP) install -c constraints.txt -e '.[sentence-transformers]'
	$(BIN)/python -m pytest tests/adapters/providers/test_sentence_transformers_package.py $(ARGS)

soak: $(VENV)/.dev  ## faults at random for MINUTES=15, repeatable by SEED=n; ARGS="--guarantee exactly-once", "--scenario kills" and others
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),15) $(if $(SEED),--seed $(SEED)) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamer needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(INPUTS) | $(BIN)/python
	@echo "Installing streamer and its demo into $(VENV) (once)"
	$(PIP) install -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(INPUTS) | $(BIN)/python
	@echo "Installing streamer and its test tools into $(VENV) (once)"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis deploy/kafka/target deploy/kafka/libs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
