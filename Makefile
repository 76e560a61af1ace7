# make up: run everything on this machine.   make test: test it.   make help: the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: $(shell grep -oE '^[a-z-]+:' $(MAKEFILE_LIST) | tr -d :)

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED)  ## Create .venv and install everything

# Torch comes first and pinned: a range would pull several gigabytes of another build.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 …'; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo 'python3-venv is needed: apt-get install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[worker,dev]' 'torch==2.13.0'
	@touch $@

up: $(INSTALLED)  ## Run gateway, worker, Redis and storage with the tiny model
	$(BIN)/cogvideox-server up $(ARGS)

test: $(INSTALLED)  ## Run the whole suite; ARGS='-k name' narrows it
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --no-loadscope-reorder $(ARGS)

coverage: $(INSTALLED)  ## The same, with what it covered
	$(MAKE) test ARGS="--cov --cov-branch --cov-report=term:skip-covered $(ARGS)"

test-long: $(INSTALLED)  ## The tests that take minutes each
	$(BIN)/python -m pytest -m long $(ARGS)

chart-test: $(INSTALLED)  ## Install the chart on three versions of Kubernetes
	KUBERNETES="1.28 1.34 1.37" $(BIN)/python -m pytest tests/chart $(ARGS)

image-test: $(INSTALLED)  ## Build and run both images with buildah, on a CPU
	$(BIN)/python -m pytest tests/images/image_checks.py -s $(ARGS)

locks: $(INSTALLED)  ## Lock anew what the images hold
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/locks/lock.sh

check: $(INSTALLED)  ## Format, lint, types, walls
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/*.Dockerfile

fix: $(INSTALLED)  ## Format and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)  ## Write the generated tables of docs/ anew
	-WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/unit/docs

bench: $(INSTALLED)  ## Measure latency, gateway cost and a whole render; ARGS=--write keeps the table
	$(BIN)/python -P tests/bench/run.py $(ARGS)

prove-limits: $(INSTALLED)  ## Measure what bodies, bombs and slow clients do; ARGS=--write keeps the table
	$(BIN)/python -P tests/bench/limits.py $(ARGS)

prove-audit: $(INSTALLED)  ## Measure the audit, the word lists and a flood of strangers; ARGS=--write keeps the table
	$(BIN)/python -P tests/bench/audit.py $(ARGS)

compatibility: $(INSTALLED)  ## Let every client do everything, and write docs/compatibility.md anew
	WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/compatibility

fuzz: $(INSTALLED)  ## Send 50,000 generated requests and judge every answer; ARGS=--write keeps the table
	$(BIN)/python -P tests/fuzz/run.py $(ARGS)

faults: $(INSTALLED)  ## 18 minutes of faults against the whole house; ARGS=--write keeps the table
	$(BIN)/python -P tests/faults/run.py faults $(ARGS)

faults-long: $(INSTALLED)  ## One storm of 20 minutes; ARGS='--slices 9 --write' adds nine to those kept in build/
	$(BIN)/python -P tests/faults/run.py long $(ARGS)

outage: $(INSTALLED)  ## Take Redis away for a minute from jobs in hand; ARGS=--write keeps the table
	$(BIN)/python -P tests/faults/away.py $(ARGS)

rolling: $(INSTALLED)  ## Ten rolling restarts of gateways and workers, two releases side by side; ARGS=--write keeps the table
	$(BIN)/python -P tests/faults/rolling.py $(ARGS)

machine: $(INSTALLED)  ## The job scripts beside their model, each directed event 1,000 times
	$(BIN)/python -P tests/faults/machine.py --least 1000 $(ARGS)

power-cuts: $(INSTALLED)  ## Twenty simulated power cuts, and Redis's answers against its fsyncs (needs strace)
	$(BIN)/python -P tests/faults/power.py $(ARGS)

prove-faults: $(INSTALLED)  ## Plant seeded bugs and show that each is caught; ARGS=--write keeps the table
	$(BIN)/python -P tests/faults/prove.py $(ARGS)

tiny: $(INSTALLED)  ## Train the built-in model anew, pack and examine it (an hour or two); ARGS=examine runs one stage
	$(BIN)/python -m tiny_model $(ARGS)

clean:  ## Remove what the targets made
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build dist
