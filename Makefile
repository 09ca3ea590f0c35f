# Every target sets itself up in .venv first; nothing but Python 3.11 (or newer) and make is needed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INPUTS := pyproject.toml constraints.txt
# pip shows its progress to a person, and keeps quiet in a log.
PIP := PYTHONWARNINGS='ignore:Editable installation' $(BIN)/python -m pip --disable-pip-version-check $$([ -t 2 ] || echo -q) install -c constraints.txt
TEST_EXTRAS := demo,static,openai,cohere,ollama,redis,tracing
# In several processes, each with a broker of its own (tests/support/distribution.py); ARGS="-n 0" for one.
SPREAD := -n auto --dist worksteal
# Of processes side by side each multiplies matrices in one thread: more would only wait for each other.
ONE_THREAD := OPENBLAS_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest $(SPREAD)
NO_BROKER := not kafka and not real_kafka and not own_broker
# Of jobs that run side by side a log gets one after the other, where make can do that (4.0); a person sees progress.
APART := $(if $(MAKE_TERMOUT),,$(if $(filter output-sync,$(.FEATURES)),--output-sync=target))

# The tests start hundreds of interpreters: where none may write its bytecode, each compiles the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check quick unit lint style types manifests format coverage soak bench test-sentence-transformers test-milvus hooks wheel clean
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-27s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## broker, worker, indexer and a sample stream on this machine; ARGS=--once ends after the summary
	$(BIN)/streamer demo $(ARGS)

test: $(VENV)/.dev  ## all tests, on real Apache Kafka where there is Docker or Java; ARGS go to pytest
	$(PYTEST) $(ARGS)

check: $(VENV)/.dev  ## lint, and the tests that need no broker and are not slow, in a minute: what to run before a commit
	@$(MAKE) --no-print-directory --keep-going -j2 $(APART) style types quick

quick: $(VENV)/.dev  ## the tests of check: unit without the slow ones, with fewer examples
	$(ONE_THREAD) $(BIN)/python -m pytest -q --side-by-side --hypothesis-profile=check -m "$(NO_BROKER) and not slow" $(ARGS)

unit: $(VENV)/.dev  ## the tests that need no Kafka broker; ARGS go to pytest
	$(PYTEST) -m "$(NO_BROKER)" $(ARGS)

lint: style types manifests  ## style, types and manifests

style: $(VENV)/.dev  ## rules, format and spelling (ruff, codespell), and pyproject.toml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml

types: $(VENV)/.dev  ## mypy, strict, on the package and its tests
	$(BIN)/mypy

# What pip cannot bring is used where it is installed: the tests of tests/deploy say what is missing.
manifests: $(VENV)/.deploy  ## Dockerfile, compose file, Kubernetes objects, alerts (helm and promtool where installed)
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema -q --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/python -m tests.deploy
	@! command -v helm >/dev/null || helm lint --strict --quiet deploy/kubernetes/helm/streamer
	@! command -v promtool >/dev/null || { promtool check rules --lint=all --lint-fatal deploy/prometheus/alerts.yml && \
	  promtool check config --syntax-only deploy/prometheus/prometheus.yml && \
	  promtool test rules deploy/prometheus/alerts.test.yml; }

format: $(VENV)/.dev  ## mend what ruff can mend, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(VENV)/.dev  ## all tests, and which lines and branches they reach; ARGS go to pytest
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(SPREAD) $(ARGS); tests=$$?; $(BIN)/coverage combine -q && $(BIN)/coverage report; exit $$tests

soak: $(VENV)/.dev  ## faults at random for MINUTES=15, repeatable by SEED=n; ARGS="--guarantee exactly-once" and others
	$(BIN)/python -m tests.faults --minutes $(or $(MINUTES),15) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(VENV)/.bench  ## a benchmark of the source tree, NAME=peers for tests/bench/peers; ARGS go to it; others: streamer bench
	$(BIN)/python -m tests.bench.$(or $(NAME),index) $(ARGS)

test-sentence-transformers: $(VENV)/.dev  ## that adapter on the real package, which brings torch: gigabytes
	$(PIP) -e '.[sentence-transformers]'
	$(BIN)/python -m pytest tests/adapters/providers/test_sentence_transformers_package.py $(ARGS)

test-milvus: $(VENV)/.dev  ## the index on real Milvus Lite, which brings 350 MB
	$(PIP) -e '.[milvus]'
	$(BIN)/python -m pytest tests/adapters/milvus tests/indexer \
	  tests/integration/test_index.py tests/integration/test_shared_index.py tests/integration/test_migrate.py $(ARGS)

hooks: $(VENV)/.dev  ## have git run style before each commit
	$(BIN)/pre-commit install

wheel: $(VENV)/.dev  ## build dist/embedding_streamer-*.whl
	rm -rf build
	$(BIN)/python -m pip --disable-pip-version-check wheel -q --no-deps --no-build-isolation -w dist .

clean:  ## remove .venv, caches, and what was built or fetched
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* \
	  deploy/kafka/target deploy/kafka/libs
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "streamer needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(INPUTS) | $(BIN)/python
	@echo "Installing streamer and its demo into $(VENV): 340 MB, a minute or less, once"
	@$(PIP) -e '.[demo]'
	@touch $@

# pip itself first: `--group` needs 25.1, and Python 3.11 brings an older one.
$(VENV)/.dev: $(INPUTS) | $(BIN)/python
	@echo "Installing streamer and the tools of its tests into $(VENV): 770 MB, a minute or two, once"
	@$(PIP) pip
	@$(PIP) -e '.[$(TEST_EXTRAS)]' --group dev
	@touch $@ $(VENV)/.demo

$(VENV)/.deploy: $(INPUTS) | $(VENV)/.dev
	@echo "Installing the schemas of Kubernetes into $(VENV): 108 MB, once"
	@$(PIP) --group deploy
	@touch $@

$(VENV)/.bench: $(INPUTS) | $(VENV)/.dev
	@echo "Installing what streamer is measured against into $(VENV)"
	@$(PIP) --group bench
	@touch $@
