# make demo      eight images of every class, in demo.png and demo.gif
# make test      the tests
# make hosts     the tests of several processes that share a run
# make examples  the notebooks, and the examples of the guides and of the API reference
# make oldest    some tests, with the oldest versions of JAX, Flax and all else that are supported
# make lint      ruff and basedpyright, as the pre-commit hooks run them
# make docs      build the documentation site in build/site/; a warning is an error
# make wheel     build the wheel in dist/, and dist/releases/: the networks that it does not hold
# make clean     remove what the others made
#
# PYTHON=/path/to/python3.11 picks the Python, VENV=folder the virtual environment.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)
VENV ?= .venv
RUFF = 0.17.6
BASEDPYRIGHT = 1.40.2
BIN = $(VENV)/bin
OLDEST = $(VENV)-oldest
OLDEST_PYTHON ?= $(shell for python in python3.11 python3.12 $(PYTHON); do \
	$$python -c 'import ensurepip' 2>/dev/null && echo $$python && break; \
	done)
OLDEST_TESTS = tests/test_api.py tests/test_convolutions.py tests/cli/test_options.py tests/models/test_networks.py \
	tests/sampling/test_runner.py tests/storage/test_paths.py tests/storage/test_releases.py \
	tests/storage/test_train_states.py tests/training/test_classifier.py tests/training/test_gan.py
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-warn-script-location
INSTALL = $(BIN)/python $(PIP_INSTALL)

.DELETE_ON_ERROR:
.PHONY: demo test hosts examples oldest lint docs wheel clean

demo: $(VENV)/.installed-demo
	$(BIN)/rsynth-generate --class all --num 8 --out demo.png --gif demo.gif
	@echo "Look at demo.png: a row a class, every image climbed from a blurred draw. demo.gif is the climb."

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

hosts: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 0 -m slow tests/train/test_hosts.py

examples: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m slow tests/test_notebooks.py tests/test_reference.py

oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning $(OLDEST_TESTS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -d build/doctrees docs build/site

wheel: $(VENV)/.installed-test
	$(BIN)/python -m build --wheel --no-isolation --outdir dist
	mkdir -p dist/releases
	cp rsynth_jax/zoo/*.safetensors rsynth_jax/zoo/*/*.safetensors dist/releases

clean:
	rm -rf .venv* build dist *.egg-info .pytest_cache .ruff_cache .hypothesis demo.png demo.gif
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(if $(PYTHON),,$(error no Python 3.11 or later with venv found: make PYTHON=/path/to/python3.11))
	$(PYTHON) -m venv $(VENV)

# Editable, so that one environment serves every target, in any order.
$(VENV)/.installed-demo: setup.cfg pyproject.toml | $(BIN)/python
	@echo "installing rsynth_jax in $(VENV) (the first time: several minutes)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(BIN)/python
	@echo "installing rsynth_jax and its tests in $(VENV) (the first time: several minutes)"
	$(INSTALL) --editable '.[test]'
	@touch $(VENV)/.installed-demo $@

$(OLDEST)/.installed: setup.cfg tests/lower-bounds.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(PIP_INSTALL) --constraint tests/lower-bounds.txt --editable '.[test]'
	@touch $@

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(BIN)/python
	$(INSTALL) --editable '.[docs]'
	@touch $@

$(VENV)/.installed-lint: Makefile $(VENV)/.installed-test | $(BIN)/python
	$(INSTALL) ruff==$(RUFF) basedpyright==$(BASEDPYRIGHT)
	@touch $@
