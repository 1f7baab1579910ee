# `make demo` shows what it does; `make lint`, `make test` and `make test-slow` check it. Each sets up .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# Processes that run tests side by side.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo lint test test-slow bench clean

.venv/.installed: pyproject.toml
	tools/system-libraries $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/python -m p3mdata demo demo

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What protects a change.
test: .venv/.installed-dev
	$(PYTEST) -m "not slow"

# The rest: kills, full disks, Ray, a browser, large networks, broken files by the thousand.
test-slow: .venv/.installed-dev
	$(PYTEST) -m slow

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks.anonymize

clean:
	rm -rf .venv demo build dist
