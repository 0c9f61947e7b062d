# Every command of the project. `make` alone lists them.

.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
PYTHON_FOLDERS := src cli tests tools migrations
# Tests share two cores well; a single file is quicker without workers.
WORKERS ?= $(if $(T),0,3)
# Each file in one worker, the longest first (tests/longest_first.py). RECORD=1 measures anew what is long.
PYTEST := --dist loadfile --no-loadscope-reorder $(if $(RECORD),--record-durations)
# Compiled files are kept: programs under test start by the hundred.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Say what each command does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Install everything, for running and for testing
	@.ci/setup dev

.PHONY: run
run: ## Start the server, a miner and a first paid job; goes on serving until Ctrl-C. CHAT=1: with a small language model
	@.ci/setup run
	@$(if $(CHAT),$(BIN)/python -m pip install -q --disable-pip-version-check --no-input --require-hashes -r requirements/chat.txt)
	@exec $(BIN)/aitbc demo $(if $(CHAT),--chat)

.PHONY: test
test: setup ## Run the tests in minutes; T=tests/kernel/primitives/test_money.py for some of them
	@$(BIN)/pytest -n $(WORKERS) $(PYTEST) $(or $(T),tests)

.PHONY: test-all
test-all: setup ## Run the tests with every place, every poison and large numbers; T= as above
	@TEST_ALL=1 $(BIN)/pytest -n $(WORKERS) $(PYTEST) $(or $(T),tests)

CHECKS := check-types check-form check-contracts check-schema check-documents check-api
.PHONY: check $(CHECKS)
check: setup ## Everything but the tests: form, types, contracts, migrations, written documents, the API
	@$(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target $(CHECKS)
check-types:
	@$(BIN)/mypy --no-error-summary
check-form:
	@$(BIN)/ruff format --check --quiet $(PYTHON_FOLDERS) || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet $(PYTHON_FOLDERS)
check-contracts:
	@$(BIN)/lint-imports --no-logo
check-schema:
	@$(BIN)/python -m tools.schema check
check-documents:
	@$(BIN)/python -m tools.documents check
check-api:
	@$(BIN)/python -m tools.api check

.PHONY: format
format: setup ## Put the code into its form
	@$(BIN)/ruff check --quiet --select I --fix $(PYTHON_FOLDERS)
	@$(BIN)/ruff format --quiet $(PYTHON_FOLDERS)

.PHONY: migrate
migrate: setup ## Bring the configured database to the newest migrations
	@$(BIN)/aitbc db migrate

.PHONY: migration
migration: setup ## Write the next migration of a module from its models: M=gpu S="add price"
	@test -n "$(M)" && test -n "$(S)" || { echo 'usage: make migration M=gpu S="add price"' >&2; exit 2; }
	@$(BIN)/python -m tools.schema migration "$(M)" "$(S)"

.PHONY: module
module: setup ## Lay out a new module that passes the checks at once: N=name
	@test -n "$(N)" || { echo 'usage: make module N=name' >&2; exit 2; }
	@$(BIN)/python -m tools.scaffold "$(N)"

.PHONY: map
map: setup ## Write the documents that come from the code: map, errors, settings, openapi.json
	@$(BIN)/python -m tools.documents write
	@$(BIN)/python -m tools.api write

.PHONY: db
db: setup ## Open psql as a module's role: M=trading
	@$(BIN)/aitbc db shell $(if $(M),--module "$(M)")

.PHONY: bench
bench: setup ## Measure; prints a table and writes build/bench.json
	@mkdir -p build
	@$(BIN)/python -m tests.bench

.PHONY: compare
compare: setup ## Measure against another checkout in turns: BASE=../before ROUNDS=20
	@test -n "$(BASE)" || { echo 'usage: make compare BASE=../before [ROUNDS=20]' >&2; exit 2; }
	@$(BIN)/python -m tests.bench.compare --base "$(BASE)" --rounds $(or $(ROUNDS),20)

.PHONY: lock
lock: ## Pin the dependencies anew in requirements/; UPGRADE=1 takes the newest allowed
	@tools/lock $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove what was made here; the data of servers stays
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis .schemathesis .coverage*
	@find $(PYTHON_FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +
