# Two commands: `make reproduce` and `make test`. Both build .venv once and reuse it.
PYTHON  ?= python3
PROFILE ?= quick
# JAX for a GPU: `make reproduce GPU=cuda12` (or cuda13).
GPU     ?=
VENV    := .venv
BIN     := $(VENV)/bin
comma   := ,
LAB     := lab$(if $(GPU),$(comma)$(GPU))
# Processes to test in.
JOBS    ?= 2
PYTEST   = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder
# `make LOCK= ...` installs the newest versions pyproject.toml allows instead of the pinned ones.
LOCK    ?= --constraint constraints.txt

.PHONY: help reproduce class-kit editions slides test test-slow test-all gpu-check lab site lint strip benchmark screenshots lock clean
.DEFAULT_GOAL := help

help:
	@echo "make reproduce [PROFILE=quick|laptop|paper] [GPU=cuda12|cuda13]   notebooks, scoreboard"
	@echo "make test                                   lint, fast tests, a trial of all notebooks"
	@echo "make test-slow | test-all                   what make test leaves out | both"
	@echo "make gpu-check [ARGS='--out FOLDER']        equality, bits, speed, memory on a GPU, by PYTHON"
	@echo "make lab                                    JupyterLab on the notebooks"
	@echo "make site [PROFILE=quick|laptop]            that run as static pages, in runs/PROFILE/site"
	@echo "make figures [PROFILE=quick|laptop]         that run's figures into figures/"
	@echo "make class-kit | editions | slides          one file with all that 00 to 06 read | student and"
	@echo "                                            instructor notebooks | figures of lessons; into runs/"
	@echo "make lint | strip | benchmark | screenshots | lock | clean"

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rebasin_lab needs Python >= 3.11, found: $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@echo "creating $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Could not create $(VENV). On Debian and Ubuntu, install the package python3-venv, then try again."; exit 1; }
	@touch $@

# One stamp per set of extras: nothing is reinstalled until the declared dependencies change.
$(VENV)/.lab$(GPU): $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing rebasin_lab[$(LAB)] (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[$(LAB)]' || \
	  { echo "The install failed; pip says why above. The pinned JAX has builds for Linux and for Macs with Apple silicon; 'make LOCK= ...' tries the newest versions instead."; exit 1; }
	@touch $@

$(VENV)/.test: $(VENV)/.lab$(GPU)
	@echo "installing rebasin_lab[site,test] ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[lab,site,test]'
	@touch $@

$(VENV)/.site: $(VENV)/.lab$(GPU)
	@echo "installing rebasin_lab[site] ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(LOCK) --editable '.[lab,site]'
	@touch $@

reproduce: $(VENV)/.lab$(GPU)
	@$(BIN)/rebasin-lab reproduce --profile "$(PROFILE)" $(ARGS)

# The figures this repository keeps, from a run that `make reproduce` finished.
figures: $(VENV)/.lab$(GPU)
	@$(BIN)/rebasin-lab publish --run "$(PROFILE)"

# For a class: runs/class-kit.zip, what 00 to 06 read at `quick`; runs/editions, notebooks;
# runs/slides, the figures of each lesson.
class-kit: $(VENV)/.lab$(GPU)
	@$(BIN)/rebasin-lab class-kit $(ARGS)

editions: $(VENV)/.lab$(GPU)
	@$(BIN)/rebasin-lab editions --to runs/editions $(ARGS)

slides: $(VENV)/.lab$(GPU)
	@$(BIN)/rebasin-lab slides --to runs/slides $(ARGS)

# Static pages of a run whose dials hold all their stops; what is trained already is not trained anew.
site: $(VENV)/.site
	@$(BIN)/rebasin-lab reproduce --profile "$(PROFILE)" --live-dials
	@$(BIN)/rebasin-lab site --run "$(PROFILE)" $(ARGS)

test: lint
	@$(PYTEST) -m "not slow" $(ARGS)

# A cold run of the notebooks, the paper's settings on tiny data, 500 random networks, the browser,
# processes that are killed.
test-slow: $(VENV)/.test
	@$(PYTEST) -m slow $(ARGS)

test-all: test test-slow

# Installs nothing: a machine with a GPU may have a JAX of its own and no package index.
gpu-check:
	@$(PYTHON) -c 'import rebasin_lab' || \
	  { echo "$(PYTHON) lacks the package named above, and gpu-check installs none: add it, or put its wheel's contents on PYTHONPATH, or name a Python that has it: make gpu-check PYTHON=..."; exit 1; }
	@$(PYTHON) -m rebasin_lab.lab.gpu_check $(ARGS)

lint: $(VENV)/.test
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/nbstripout --verify notebooks/*.ipynb || \
	  { echo "Notebooks are kept without outputs: run 'make strip'."; exit 1; }

strip: $(VENV)/.test
	@$(BIN)/nbstripout notebooks/*.ipynb

lab: $(VENV)/.lab$(GPU)
	@$(BIN)/rebasin-lab lab $(ARGS)

benchmark: $(VENV)/.test
	@$(BIN)/python -m pytest tests/benchmarks --benchmark-enable --benchmark-only $(ARGS)

# Of every dial, in both themes, with numbers as `make reproduce` has them: XLA compiles for tests
# as fast as it can, and other last bits are other networks.
screenshots: $(VENV)/.test
	@XLA_FLAGS= REBASIN_BROWSER_SIZES=quick $(BIN)/python -m pytest tests/browser $(ARGS)
	@mkdir -p figures/lab && cp runs/browser/*.webp figures/lab/

# From a fresh environment with the newest versions our bounds allow.
lock: $(VENV)/.python
	@$(PYTHON) -m venv --clear $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[lab,site,test]'
	@$(VENV)/lock/bin/python -m pip freeze | grep -v '^rebasin_lab' > $(VENV)/lock.txt
	@mv $(VENV)/lock.txt constraints.txt && rm -rf $(VENV)/lock

clean:
	rm -rf $(VENV) runs
