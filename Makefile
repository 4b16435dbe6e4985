# Everything a developer or CI does. `make demo` and `make test` start from a machine with nothing but Python 3.11.

.PHONY: help demo demo-images test test-slow test-all check format docs portfolio bench campaign clean
.DEFAULT_GOAL := help

# The first Python that is new enough; `make test PYTHON=/path/to/python` takes another.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin

# $(call apt,PACKAGE): install a Debian package, or say that somebody else has to.
apt = if command -v apt-get >/dev/null && { test "$$(id -u)" = 0 || command -v sudo >/dev/null; }; then \
		as_root=$$(test "$$(id -u)" = 0 || echo sudo); \
		$$as_root apt-get update -qq && $$as_root apt-get install -y -qq --no-install-recommends $(1); \
	else echo "windvane: please install $(1) with the package manager of this system" >&2; fi

# $(call pytest,BIN): the tests in two processes, each file in one of them, the longest first; then those that need the
# machine for themselves.
pytest = $(1)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow and not alone' tests/test_examples.py tests && \
	$(1)/python -m pytest -m 'alone and not slow' $$(grep -rl --include='*.py' mark.alone tests)

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/core.stamp  ## train on a table that scikit-learn ships, print the leaderboard, write report.html
	WINDVANE_EXAMPLE_REPORT=report.html $(BIN)/python examples/01_classify.py

demo-images: $(VENV)/images.stamp  ## search over small images of digits, print the leaderboard, write report.html
	WINDVANE_EXAMPLE_REPORT=report.html $(BIN)/python examples/13_images.py

test: check  ## what CI runs
	$(call pytest,$(BIN))

test-slow: $(VENV)/dev.stamp  ## the longer checks
	$(BIN)/python -m pytest -m slow

# Each interpreter gets an environment of its own; the ones that are not installed are named and left out.
test-all:  ## the tests on every Python from 3.11 to 3.14 that this machine has
	@for version in 3.11 3.12 3.13 3.14; do \
		python=$$(command -v python$$version || ls $$HOME/.pyenv/versions/$$version.*/bin/python 2>/dev/null | tail -1); \
		if [ -z "$$python" ] || ! "$$python" -c '' 2>/dev/null; then echo "windvane: no Python $$version here"; continue; fi; \
		echo "windvane: Python $$version"; \
		$(MAKE) --no-print-directory VENV=.venv-$$version PYTHON="$$python" .venv-$$version/dev.stamp && \
		{ $(call pytest,.venv-$$version/bin); } || exit 1; \
	done

check: $(VENV)/dev.stamp  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp  ## mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs.stamp  ## build the documentation site into docs/_build/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/.doctrees docs docs/_build

portfolio: $(VENV)/dev.stamp  ## learn the portfolios that ship again from the committed matrix
	$(BIN)/python -m benchmarks.metalearning.portfolio build

bench: $(VENV)/dev.stamp  ## the script behind the comparison in the README: hours, on a quiet machine
	$(BIN)/python -m benchmarks.peers.compare setup
	$(BIN)/python -m benchmarks.peers.compare run --systems autosklearn2 autogluon flaml
	$(BIN)/python -m benchmarks.peers.compare run --systems windvane --seeds 0 1 2
	$(BIN)/python -m benchmarks.peers.compare run --kind further --systems windvane autogluon
	$(BIN)/python -m benchmarks.peers.compare table
	$(BIN)/python -m benchmarks.peers.compare table --kind further

campaign: $(VENV)/dev.stamp  ## faults, mutated files and odd tables that have no result yet, or a broken one: an hour
	$(BIN)/python -m benchmarks.reliability.campaign run
	$(BIN)/python -m benchmarks.reliability.campaign again
	$(BIN)/python -m benchmarks.pages fill
	$(BIN)/python -m benchmarks.reliability.campaign table

clean:  ## remove all that is made here
	rm -rf $(VENV) .venv-3.* docs/_build docs/reference/generated build dist *.egg-info demo_run report.html catboost_info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/core.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/images.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[images]'
	touch $@ $(VENV)/core.stamp

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/core.stamp

$(VENV)/docs.stamp: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[docs]'
	touch $@

# Debian keeps ensurepip in a package of its own; LightGBM needs the system's OpenMP library on Linux.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "windvane: Python 3.11 or later is needed; name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		{ $(call apt,$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')); }
	@test "$$(uname -s)" != Linux || $(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || \
		{ $(call apt,libgomp1); }
	$(PYTHON) -m venv $(VENV)
