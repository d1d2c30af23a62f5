# Every target sets itself up: the first call makes .venv and installs what it needs (about 5 GB, mostly torch).
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev
DOCS_READY := $(VENV)/.ready-docs
RAY_READY := $(VENV)/.ready-ray

.PHONY: help demo quick test test-slow test-ray check bench measure docs clean

help:        ## show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(PY):
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(RUN_READY): $(PY) pyproject.toml
	$(PY) -m pip install --quiet -e '.[app]'
	@touch $@

$(DEV_READY): $(PY) pyproject.toml
	$(PY) -m pip install --quiet -e '.[dev]'
	@touch $@ $(RUN_READY)

$(DOCS_READY): $(PY) pyproject.toml
	$(PY) -m pip install --quiet -e '.[docs,app]'
	@touch $@ $(RUN_READY)

$(RAY_READY): $(PY) pyproject.toml
	$(PY) -m pip install --quiet -e '.[dev,ray]'
	@touch $@ $(DEV_READY) $(RUN_READY)

demo: $(RUN_READY)        ## toy birds, offline: fit, measure, explain, audit, forget; writes runs/toy
	$(VENV)/bin/carrot demo

# One process for each core, at most four, each with its own module's models; one thread each.
TOGETHER := OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile

THEORY := regions graph operator readout lift head gram blocks statistics small_lam logit attribution shapley parts

quick: $(DEV_READY)       ## while you work: ruff, and the tests of theory, architecture and claims; less than a minute on two cores
	$(VENV)/bin/ruff check .
	$(PY) -m pytest -q tests/architecture tests/claims $(THEORY:%=tests/unit/test_%.py)

test: $(DEV_READY)        ## the default test suite, minutes on two cores
	$(TOGETHER)

test-slow: $(DEV_READY)   ## the slow cases: every supported family of timm models, and more
	$(PY) -m pytest -q -m slow

test-ray: $(RAY_READY)    ## a cluster of Ray on this machine: the same bits, lost workers, bad input; two minutes
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -m ray

check: $(DEV_READY)       ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(DEV_READY)       ## benchmarks; each checks its answers first, then writes benchmarks/results/*.json
	$(PY) -m benchmarks.forward
	$(PY) -m benchmarks.suspects toy

measure: $(DEV_READY)     ## measure the claims again; write the tables of docs/ and README.md
	$(PY) -m docs.measure_claims
	$(PY) -m docs.benchmark_tables

docs: $(DOCS_READY)       ## the documentation site, in site/: broken links and names fail
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

clean:       ## remove the virtual environment and what tools left
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site
