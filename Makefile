# Verbs; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE = 1

.DEFAULT_GOAL := help
.PHONY: help dev fmt lint type check test clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

dev: .venv/.ready ## make the virtual environment with pinned packages

fmt: dev ## format the code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: dev ## style rules
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

type: dev ## static types
	$(BIN)/mypy builder installer tests

test: dev ## all tests that need no cluster
	$(BIN)/pytest -m 'not cluster' -n 2

clean: ## remove what the build made
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
