# `make demo` and `make test` need nothing but Python 3.11 or newer: each first sets up .venv.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first Python on this machine that is new enough; `make PYTHON=...` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# Extras to install: `make demo EXTRAS=dev,cuda13` on a machine with an NVIDIA GPU.
EXTRAS ?= dev
DEMO := runs/demo
# Two processes, a file at a time in the order of tests/conftest.py, the longest first.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test torture lint bench reproduce format setup clean

help:
	@echo "make demo   train a network to insert a peg, draw figures and a video (results in $(DEMO))"
	@echo "make test   run the tests"
	@echo "make torture  kill, damage and fill up runs in all ways that tests know, for half an hour"
	@echo "make lint   formatting, lint and types"
	@echo "make bench  measure the speed on this machine"
	@echo "make reproduce  all tables of published results, into benchmarks/results"
	@echo "make format rewrite the code in the project's format"

demo: $(STAMP)
	$(BIN)/jgps train peg_insertion --algorithm mdgps --iterations 12 --out $(DEMO) --overwrite
	@echo
	@echo "figures: $(CURDIR)/$(DEMO)/figures"
	@echo "videos:  $(CURDIR)/$(DEMO)/videos"

test: $(STAMP)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

torture: $(STAMP)
	JGPS_TORTURE=1 JGPS_TEST_BUDGET=0 $(BIN)/python -m pytest $(PYTEST_ARGS) --timeout 3600 tests/faults

lint: $(STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pre-commit run --all-files

format: $(STAMP)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/jgps bench

reproduce: $(STAMP)
	@failed=0; for script in benchmarks/reproduce_*.py; do \
		$(BIN)/python $$script || failed=1; done; exit $$failed

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "jgps needs Python 3.11 or newer: install it, or name it as in" \
		"make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON): a few minutes, only this once"
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf $(VENV) .jax_cache .pytest_cache .ruff_cache
