# Every command of the project. `make` alone lists them.

.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
PYTHON_FOLDERS := src cli tests tools migrations
# Tests share two cores well; a single file is quicker without workers.
WORKERS ?= $(if $(T),0,2)

.PHONY: help
help: ## Say what each command does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Install everything, for running and for testing
	@.ci/setup dev

.PHONY: run
run: ## Start the server, a miner and a first paid job; goes on serving until Ctrl-C
	@.ci/setup run
	@exec $(BIN)/aitbc demo

.PHONY: test
test: setup ## Run the tests; T=tests/kernel/primitives/test_money.py for some of them
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile $(or $(T),tests)

.PHONY: check
check: setup ## Everything but the tests: form, types, contracts, migrations, written documents
	@$(BIN)/ruff format --check --quiet $(PYTHON_FOLDERS) || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet $(PYTHON_FOLDERS)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tools.schema check
	@$(BIN)/python -m tools.documents check

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
map: setup ## Write the documents that come from the code: map, errors, settings
	@$(BIN)/python -m tools.documents write

.PHONY: db
db: setup ## Open psql as a module's role: M=trading
	@$(BIN)/aitbc db shell $(if $(M),--module "$(M)")

.PHONY: bench
bench: setup ## Measure; prints a table and writes build/bench.json
	@mkdir -p build
	@$(BIN)/python -m tests.bench

.PHONY: lock
lock: ## Pin the dependencies anew in requirements/; UPGRADE=1 takes the newest allowed
	@tools/lock $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove what was made here; the data of servers stays
	@rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find $(PYTHON_FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +
