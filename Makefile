# Two commands: `make reproduce` and `make test`. Both build .venv once and reuse it.
PYTHON  ?= python3
PROFILE ?= quick
VENV    := .venv
BIN     := $(VENV)/bin
# `make LOCK= ...` installs the newest versions pyproject.toml allows instead of the pinned ones.
LOCK    ?= --constraint constraints.txt

.PHONY: reproduce test lab lint benchmark lock clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make reproduce [PROFILE=quick|laptop|paper]   run the notebook sequence, print the scoreboard"
	@echo "make test                                     lint, then the whole test suite"
	@echo "make lab                                      JupyterLab on the notebooks"
	@echo "make lint | benchmark | lock | clean"

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rebasin_lab needs Python >= 3.11, found: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "could not create $(VENV): on Debian and Ubuntu, install the package python3-venv first"; exit 1; }
	@touch $@

# One stamp per set of extras: nothing is reinstalled until the declared dependencies change.
$(VENV)/.lab: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing rebasin_lab[lab] (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[lab]'
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	@echo "installing rebasin_lab[test] ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[lab,test]'
	@touch $@

reproduce: $(VENV)/.lab
	@$(BIN)/rebasin-lab reproduce --profile $(PROFILE) $(ARGS)

test: lint
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.test
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

lab: $(VENV)/.lab
	@$(BIN)/jupyter lab notebooks

benchmark: $(VENV)/.test
	@$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only $(ARGS)

lock: $(VENV)/.test
	@$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) runs
