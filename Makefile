# Verbs; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# Tests at a time; many of them wait for servers.
WORKERS ?= 3
# Debian packages that a target needs (tests/packages.py): asked for at once, and first of all.
PACKAGES := python
demo: PACKAGES := demo
test kills docs: PACKAGES := test
cluster test-cluster: PACKAGES := cluster
bench bench-short: PACKAGES := bench

.DEFAULT_GOAL := help
.PHONY: help dev fmt lint type check demo test programs pytest docs cluster cluster-down test-cluster kills chances bench bench-short clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -m tests.packages $(PACKAGES)
	@if ! { [ -x $(BIN)/python ] && $(BIN)/python -m tests.environment; }; then set -ex; $(PYTHON) -m venv .venv; \
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'; fi
	@touch $@

dev: .venv/.ready ## make the virtual environment with pinned packages

fmt: dev ## format the code
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: dev ## style rules
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

type: dev ## static types
	$(BIN)/mypy builder installer tests

demo: dev ## the whole way with real commands, between two registries that it starts (KUBECONFIG: and into a cluster)
	@$(BIN)/python -m tests.demo

docs: dev ## write anew what README.md and docs/ take from the code, the charts, and registries that it starts
	@$(PYTHON) -m tests.packages $(PACKAGES)
	$(BIN)/python -m tests.exit_codes README.md
	@if [ "$$(id -u)" = 0 ]; then set -x; $(BIN)/python -m tests.registries_matrix docs/registries-matrix.md; \
	else echo "docs/registries-matrix.md stays as it is: containerd wants root"; fi
	@if [ -n "$$AIRFERRY_TEST_ASSETS" ]; then set -x; $(BIN)/python -m tests.image_table docs/images.md; \
	else echo "docs/images.md stays as it is: AIRFERRY_TEST_ASSETS names no folder with the W&B charts"; fi
	@if [ -n "$$AIRFERRY_TEST_CHARTS" ]; then set -x; $(BIN)/python -m tests.foreign_charts docs/foreign-charts.md; \
	else echo "docs/foreign-charts.md stays as it is: AIRFERRY_TEST_CHARTS names no folder with charts of others"; fi

test: dev ## all tests that need no cluster
	@$(PYTHON) -m tests.packages $(PACKAGES)
	@$(MAKE) --no-print-directory --jobs 2 programs pytest

programs: dev
	$(BIN)/python -m tests.parts.go_programs

pytest: dev
	GOGC=800 $(BIN)/pytest -m 'not cluster' -n $(WORKERS)

kills: dev ## builds, copies onto media and loads, killed at 216 random moments
	@$(PYTHON) -m tests.packages $(PACKAGES)
	AIRFERRY_TEST_ROUNDS=6 $(BIN)/pytest -s -m 'not frozen' -k 'interrupted and not debian' tests/journeys/test_interrupted.py

chances: dev ## 2000 journeys between registries that answer by chance as they may, and 2400 with one that answers as none may (half an hour)
	AIRFERRY_TEST_ROUNDS=2000 $(BIN)/pytest -s tests/journeys/test_any_registry.py

cluster: dev ## build (once) and start the enclave: a real cluster of one node without a way out
	@$(PYTHON) -m tests.packages $(PACKAGES)
	$(BIN)/python -m tests.parts.enclave build
	$(BIN)/python -m tests.parts.enclave up

cluster-down: dev ## end and remove the enclaves
	$(BIN)/python -m tests.parts.enclave down

test-cluster: dev ## the tests on the enclave, which is started for them if it does not run
	@$(PYTHON) -m tests.packages $(PACKAGES)
	$(BIN)/python -m tests.parts.enclave build
	$(BIN)/python -m tests.parts.go_programs controllers
	GOGC=800 $(BIN)/pytest tests/live -m cluster -n 3 --dist loadfile --no-loadscope-reorder

bench: dev ## registry to bundle to registry on 2 GB, beside every peer on PATH (three quarters of an hour with all); writes docs/performance.md
	@$(PYTHON) -m tests.packages $(PACKAGES)
	$(BIN)/python -m tests.bench.transfer --runs 9 --write docs/performance.md
	$(BIN)/python -m tests.bench.latency --runs 3 --write docs/performance.md
	$(BIN)/python -m tests.bench.flat --runs 3 --write docs/performance.md
	$(BIN)/python -m tests.bench.locking --write docs/performance.md
	$(BIN)/python -m tests.bench.start

bench-short: dev ## the same on a tenth of the bytes, printed only
	@$(PYTHON) -m tests.packages $(PACKAGES)
	$(BIN)/python -m tests.bench.transfer --runs 1 --scale 0.1
	$(BIN)/python -m tests.bench.latency --runs 1
	$(BIN)/python -m tests.bench.flat --runs 1 --images 160
	$(BIN)/python -m tests.bench.locking --runs 1
	$(BIN)/python -m tests.bench.start 3

clean: ## remove what the build made
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find builder installer templates tests -name __pycache__ -prune -exec rm -rf {} +
