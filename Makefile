# `make` alone lists the targets. Another Python: make clean setup PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Made as UNFINISHED when an installation starts and renamed to STAMP when it has succeeded. So an interrupted one never
# counts as done, and its age is that of the start: an edit made meanwhile leads to another run.
STAMP := $(VENV)/.mechgate-ready
UNFINISHED := $(VENV)/.mechgate-unfinished

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test browser acceptance check bench calibrate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s  %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## install mechgate and its tools into .venv, at tested versions (about 90 s, once)
	@echo "ready: $(BIN)/mechgate"

demo: $(STAMP) ## train a gate on the small default model and show what it does
	$(BIN)/mechgate demo

test: check ## setup, check, then all tests but those of whole verdicts and of pages in a browser
	$(BIN)/python -m pytest -m "not acceptance and not browser"

browser: $(STAMP) ## open the report page in headless Chromium (apt-get install chromium)
	$(BIN)/python -m pytest -m browser

acceptance: $(STAMP) ## whole verdicts on the default model: what must be selective, and what must not (about 18 min)
	$(BIN)/python -m pytest -m acceptance -v

check: $(STAMP) ## lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(STAMP) ## measure speed and memory
	$(BIN)/python -m benchmarks

calibrate: $(STAMP) ## check error rates, p-values, intervals and power where the truth is known (at most 40 min, resumable)
	$(BIN)/python analyses/calibration.py

clean: ## remove .venv, caches and runs/ (downloaded models are kept)
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The filtered warning only says that a local extra package index does not hold every package.
$(STAMP): pyproject.toml constraints.txt
	@set -euo pipefail; \
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 13) or sys.exit("mechgate needs Python 3.11 or 3.12, and $(PYTHON) is %d.%d. Name another: make setup PYTHON=python3.11" % v)'; \
	if [ -e $(UNFINISHED) ]; then echo "setup: an earlier installation did not finish, starting anew"; rm -rf $(VENV); fi; \
	rm -f $(STAMP); mkdir -p $(VENV); touch $(UNFINISHED); \
	if [ ! -x $(BIN)/python ]; then echo "setup 1/2: creating $(VENV)"; $(PYTHON) -m venv $(VENV); fi; \
	echo "setup 2/2: installing packages (about 90 s; more on a slow network)"; \
	$(BIN)/python -m pip install --no-input --disable-pip-version-check --progress-bar off \
	    -c constraints.txt -e '.[lora,dev]' 2> >(grep -v '^WARNING: Location .* is ignored' >&2) \
	    | awk '/^(Collecting|Requirement already)/ && ++n % 25 == 0 {print "  " n " requirements looked up"; fflush()} \
	           /^Installing collected/ {print "  writing them to $(VENV)"; fflush()}'; \
	mv $(UNFINISHED) $(STAMP)
