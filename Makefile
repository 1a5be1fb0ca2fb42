# `make help` lists what there is. Everything is written to .venv/ and .local/ of this checkout.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LOCAL := .local
STREAMKEEPER := $(BIN)/streamkeeper
FORMATTED := include plugins spark_apps dags tests bench docker
TYPED := include plugins spark_apps dags bench docker

# pytest makes the last folder of its base only.
$(shell mkdir -p $(LOCAL)/tests $(LOCAL)/tmp)

# Libraries' caches and homes stay in the checkout, and so do temporary files as long as the
# path is short enough for the Unix sockets among them.
export XDG_CACHE_HOME := $(CURDIR)/$(LOCAL)/cache
export MPLCONFIGDIR := $(CURDIR)/$(LOCAL)/cache
export AIRFLOW_HOME ?= $(CURDIR)/$(LOCAL)/tests/airflow
ifeq ($(shell test $$(printf %s '$(CURDIR)' | wc -c) -le 58 && echo short),short)
export TMPDIR := $(CURDIR)/$(LOCAL)/tmp
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ready ## the whole main job on real servers, until Ctrl-C
	@exec $(STREAMKEEPER) local demo $(ARGS)

.PHONY: up down status logs
up: ready ## start the servers and Airflow
	@$(STREAMKEEPER) local up $(ARGS)

down: $(VENV)/.installed ## end everything that this checkout started
	@$(STREAMKEEPER) local down $(ARGS)

status: $(VENV)/.installed ## show the servers
	@$(STREAMKEEPER) local status $(ARGS)

logs: $(VENV)/.installed ## follow the logs of all servers
	@exec tail -n 20 -F $(LOCAL)/logs/*/log

.PHONY: test test-unit test-spark test-airflow test-integration chaos soak
test: ready ## every test, on real servers, in two processes with servers of their own
	@$(BIN)/python -m pytest -n 2 --no-loadscope-reorder \
	  --basetemp=$(LOCAL)/tests/tmp $(ARGS)

test-unit: $(VENV)/.installed ## the tests of pure functions: seconds
	@$(BIN)/python -m pytest --basetemp=$(LOCAL)/tests/tmp tests/unit $(ARGS)

test-spark: ready ## the tests on a Spark session
	@$(BIN)/python -m pytest --basetemp=$(LOCAL)/tests/tmp tests/spark $(ARGS)

test-airflow: $(VENV)/.installed ## the tests on Airflow's libraries
	@$(BIN)/python -m pytest --basetemp=$(LOCAL)/tests/tmp tests/airflow $(ARGS)

test-integration: ready ## the tests on real servers
	@$(BIN)/python -m pytest --basetemp=$(LOCAL)/tests/tmp tests/integration $(ARGS)

chaos: ready ## kill and freeze drivers for many minutes
	@$(BIN)/python -m pytest --basetemp=$(LOCAL)/tests/tmp -s tests/chaos $(ARGS)

soak: ready ## all streams at their own rates beside each other, for 15 minutes
	@STREAMKEEPER_SOAK_MINUTES=$${STREAMKEEPER_SOAK_MINUTES:-15} \
	  $(BIN)/python -m pytest --basetemp=$(LOCAL)/tests/tmp -s tests/integration/test_soak.py $(ARGS)

.PHONY: bench
bench: ready ## measure: prints a table, writes bench/results.json
	@$(BIN)/python -m bench $(ARGS)

.PHONY: docs
docs: $(VENV)/.installed ## make the pages and the schema that come from the code
	@$(STREAMKEEPER) schema > include/streams/declaration.schema.json
	@$(STREAMKEEPER) schema --expressions > docs/expressions.md

.PHONY: check format
check: $(VENV)/.installed ## format, lint, types, import contracts
	@$(BIN)/ruff format --check $(FORMATTED)
	@$(BIN)/ruff check $(FORMATTED)
	@$(BIN)/mypy $(TYPED)
	@$(BIN)/lint-imports --cache-dir $(LOCAL)/cache/import_linter

format: $(VENV)/.installed ## format, and mend what the linter can
	@$(BIN)/ruff check --fix $(FORMATTED)
	@$(BIN)/ruff format $(FORMATTED)

.PHONY: ready venv jars
ready: $(VENV)/.installed $(LOCAL)/jars/.fetched
venv: $(VENV)/.installed ## the Python environment, from requirements.lock
jars: $(LOCAL)/jars/.fetched ## Spark's and the servers' jars, from jars.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	@PYTHON='$(PYTHON)' VENV='$(VENV)' bash tools/install.sh

# The servers check the jars again at every start; this only saves the look when nothing changed.
$(LOCAL)/jars/.fetched: jars.lock $(VENV)/.installed
	@mkdir -p $(LOCAL)/jars $(LOCAL)/tmp
	@$(STREAMKEEPER) local jars
	@touch $@

.PHONY: lock clean
lock: $(VENV)/.installed ## pin everything anew from requirements.txt and requirements-dev.txt
	@UV_NO_CACHE=1 $(BIN)/uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header \
	  requirements.txt requirements-dev.txt -o requirements.lock

clean: ## end everything, delete .venv/ and .local/
	@if [ -x $(STREAMKEEPER) ]; then $(STREAMKEEPER) local down; fi
	rm -rf $(VENV) $(LOCAL)
