# Each command does its own set-up: it needs Python 3.11 or newer, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: serve test check format lint types walls film lock clean

serve: .venv/serve.stamp  ## serve the shipped model on :8000
	$(BIN)/python -m app

test: .venv/dev.stamp  ## the whole test suite
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: format lint types walls test  ## everything that CI runs

format: .venv/dev.stamp
	$(BIN)/ruff format --check .

lint: .venv/dev.stamp
	$(BIN)/ruff check .

types: .venv/dev.stamp
	$(BIN)/mypy

walls: .venv/dev.stamp
	$(BIN)/lint-imports

film: chest.png  ## a real chest film to try

chest.png: .venv/dev.stamp
	$(BIN)/python -m scripts.film chest.png

lock: .venv/dev.stamp  ## resolve the lock files anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -c requirements.lock --extra gpu pyproject.toml -o requirements-gpu.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -c requirements.lock --extra dev pyproject.toml -o requirements-dev.lock

.venv/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit("Lightbox needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/serve.stamp: requirements.lock .venv/venv.stamp
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/venv.stamp
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@ .venv/serve.stamp

clean:
	rm -rf .venv .training build *.egg-info .coverage
