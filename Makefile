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

.PHONY: serve test coverage check format lint types walls film up lock wheels keras2 protocols cluster clean

serve: $(VENV)/serve.stamp  ## serve the shipped model on :8000
	$(BIN)/python -m app

test: $(VENV)/dev.stamp  ## the whole test suite; TESTS=... for some of it
	$(BIN)/python -m pytest $(TESTS)

coverage: $(VENV)/dev.stamp  ## the same, and which lines it runs; takes longer
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered $(TESTS)

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

# Compose can't choose between services, so this does: the GPU's where Docker has NVIDIA's runtime and a GPU answers.
up:  ## serve in a container, on the GPU where there is one
	@docker info >/dev/null || { echo "make up needs a running Docker engine with Compose" >&2; exit 1; }
	@port=$${LIGHTBOX_PORT:-$$(sed -n 's/^LIGHTBOX_PORT=//p' .env 2>/dev/null)}; port=$${port:-8000}; \
	if docker info --format '{{range $$name, $$runtime := .Runtimes}}{{println $$name}}{{end}}' | grep -qx nvidia \
			&& nvidia-smi -L 2>/dev/null | grep -q '^GPU '; \
		then service=lightbox-gpu; processor=GPU; else service=lightbox; processor=CPU; fi; \
	echo "Lightbox serves on the $$processor: http://localhost:$$port"; \
	LIGHTBOX_PORT=$$port LIGHTBOX_GPU_PORT=$$port docker compose up $$service

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml
# The other locks are layers: each holds what its environment has beyond requirements.lock, in the same versions.
LAYER = $(COMPILE) -c requirements.lock $$(sed -nE 's/^([a-z0-9._-]+)(\[.*\])?==.*/--no-emit-package \1/p' requirements.lock)

WHEELS = $(BIN)/uv pip install --quiet --dry-run --no-deps --only-binary :all: --target .venv/nowhere

lock: $(VENV)/dev.stamp  ## resolve the locks anew
	$(BIN)/pip install --quiet uv
	$(COMPILE) --upgrade -o requirements.lock
	$(LAYER) --extra gpu -o requirements-gpu.lock
	$(LAYER) --extra dev -o requirements-dev.lock
	$(LAYER) -c requirements-dev.lock --extra ray -o requirements-ray.lock
	$(LAYER) -c requirements-dev.lock -c requirements-ray.lock --override tests/cluster.overrides --extra cluster -o tests/cluster.lock
	$(COMPILE:pyproject.toml=tests/protocols.in) --upgrade -o tests/protocols.lock
	$(MAKE) wheels

# People run this on Graviton and Apple machines, too; the CUDA layer is for Linux alone.
wheels: $(VENV)/dev.stamp  ## check that every locked package has a wheel for each Python and platform
	$(BIN)/pip install --quiet uv
	@for python in 3.11 3.12 3.13; do \
		for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin; do \
			echo "Python $$python on $$platform"; \
			$(WHEELS) --python-version $$python --python-platform $$platform -r requirements.lock -r requirements-dev.lock || exit 1; \
		done; \
		$(WHEELS) --python-version $$python --python-platform x86_64-unknown-linux-gnu -r requirements-gpu.lock || exit 1; \
	done

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

# An environment apart: beside Keras 3, the older Keras would change what TensorFlow imports.
keras2: $(VENV)/keras2.stamp  ## the older Keras, for the tests that compare with it: LIGHTBOX_KERAS2=.venv/keras2/bin/python

$(VENV)/keras2.stamp: tests/keras2.lock $(VENV)/dev.stamp
	$(PYTHON) -m venv $(VENV)/keras2
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' > \
		"$$($(VENV)/keras2/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/lightbox.pth"
	$(VENV)/keras2/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r tests/keras2.lock
	@touch $@

# An environment apart as well: Ray is no small guest, and the service must run without it.
cluster: $(VENV)/cluster.stamp  ## the tests of the service and the offline side on Ray, and of deploy/kubernetes
	$(VENV)/cluster/bin/python -m pytest tests/cluster

$(VENV)/cluster.stamp: requirements-ray.lock tests/cluster.lock $(VENV)/dev.stamp
	$(PYTHON) -m venv $(VENV)/cluster
	$(VENV)/cluster/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes \
		-r requirements.lock -r requirements-dev.lock -r requirements-ray.lock -r tests/cluster.lock
	@touch $@

# Another environment apart: what these clients require need not fit what the service requires.
protocols: $(VENV)/protocols.stamp  ## real clients of the inference protocols, against a real server
	LIGHTBOX_PROTOCOLS=$(abspath $(VENV))/protocols/bin/python $(BIN)/python -m pytest tests/process/test_protocols.py

$(VENV)/protocols.stamp: tests/protocols.lock $(VENV)/dev.stamp
	$(PYTHON) -m venv $(VENV)/protocols
	$(VENV)/protocols/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r tests/protocols.lock
	$(VENV)/protocols/bin/python -m pip check --disable-pip-version-check
	@touch $@

clean:
	rm -rf $(VENV) .training build *.egg-info .coverage
