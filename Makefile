# Each command does its own set-up: it needs make and a Python that TensorFlow has wheels for, nothing else.
SUPPORTED := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$python && break; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
# Nothing is resolved at installation: a resolver would look at what has been released since the lock was made.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes
INSTALLED := $(BIN)/python -m pip check --disable-pip-version-check
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: serve test check format lint types walls film lock clean

serve: $(VENV)/serve.stamp  ## serve the shipped model on :8000
	$(BIN)/python -m app

test: $(VENV)/dev.stamp  ## the whole test suite
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: format lint types walls test  ## everything that CI runs

format: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

walls: $(VENV)/dev.stamp
	$(BIN)/lint-imports

film: chest.png  ## a real chest film to try

chest.png: $(VENV)/dev.stamp
	$(BIN)/python -m scripts.film chest.png

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml
# The other locks are layers: each holds what its environment has beyond requirements.lock, in the same versions.
LAYER = $(COMPILE) -c requirements.lock $$(sed -nE 's/^([a-z0-9._-]+)(\[.*\])?==.*/--no-emit-package \1/p' requirements.lock)

lock: $(VENV)/dev.stamp  ## resolve the locks anew
	$(BIN)/pip install --quiet uv
	$(COMPILE) --upgrade -o requirements.lock
	$(LAYER) --extra gpu -o requirements-gpu.lock
	$(LAYER) --extra dev -o requirements-dev.lock

$(VENV)/venv.stamp:
	@$(or $(PYTHON),false) -c '$(SUPPORTED)' || { \
		echo "Lightbox needs Python 3.11, 3.12 or 3.13 with its venv module: TensorFlow has wheels for no other." >&2; \
		echo "Found: $(or $(PYTHON),$$(python3 --version 2>&1)). Install one of them, or name it: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/serve.stamp: requirements.lock $(VENV)/venv.stamp
	$(INSTALL) -r requirements.lock
	$(INSTALLED)
	@touch $@

$(VENV)/dev.stamp: requirements.lock requirements-dev.lock $(VENV)/venv.stamp
	$(INSTALL) -r requirements.lock -r requirements-dev.lock
	$(INSTALLED)
	@touch $@ $(VENV)/serve.stamp

clean:
	rm -rf $(VENV) .training build *.egg-info .coverage
