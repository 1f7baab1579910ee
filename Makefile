# `make demo` shows what it does; `make lint`, `make test` and `make test-slow` check it. Each sets up .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# Processes that run tests side by side.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: demo lint test test-slow bench wheels clean

.venv/.installed: pyproject.toml
	tools/system-libraries $(PYTHON)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# Installing compiles the C library too; this follows its sources. Without a compiler all goes on, slower.
.venv/.compiled: .venv/.installed $(wildcard p3mdata/native/*.[ch]) p3mdata/native/compiling.py
	$(BIN)/python -m p3mdata.native || true
	touch $@

demo: .venv/.compiled
	$(BIN)/python -m p3mdata demo demo

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What protects a change.
test: .venv/.installed-dev .venv/.compiled
	$(PYTEST) -m "not slow"

# The rest: kills, full disks, Ray, a browser, large networks, broken files by the thousand.
test-slow: .venv/.installed-dev .venv/.compiled
	$(PYTEST) -m slow

bench: .venv/.installed-dev .venv/.compiled
	$(BIN)/python -m benchmarks.anonymize

# For a release: one for each platform, in dist/.
wheels: .venv/.installed
	$(BIN)/python -m tools.wheels

clean:
	rm -rf .venv demo build dist p3mdata/native/_p3mdata.* p3mdata/native/.made-*
