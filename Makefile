# Everything runs in .venv, which `make` makes; a second run finds it fresh.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Tests start hundreds of processes: none of them compiles again what has not changed.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test cluster-test floor-test pipecat-test slow-test lint check format coverage bench clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON): no such command: set PYTHON=python3.12, say"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: set PYTHON=python3.12, say"; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	  { echo "Python cannot make an environment with pip in it: apt-get install python3-venv"; exit 2; }
	@echo "installing into $(VENV), for a minute or so …"
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@# setuptools warns of editable installs in a banner: nothing that a user could mend
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev --editable .
	@# a source distribution, and the tests of sound are skipped without it
	@command -v cc >/dev/null && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --group sound >/dev/null 2>&1 || \
	  echo "pesq cannot be built here, so tests of sound will be skipped: apt-get install gcc libc6-dev python3-dev"
	@touch $@

demo: $(STAMP)  ## call a local gateway as all four carriers and print the table
	@$(BIN)/gateway demo

test: $(STAMP)  ## the tests; they need redis-server
	@$(BIN)/python -m pytest --numprocesses 6 --dist worksteal

cluster-test: $(STAMP)  ## the tests that need HAProxy or PostgreSQL too: nodes that die under calls, behind a balancer
	@command -v haproxy >/dev/null || { echo "HAProxy is missing: apt-get install haproxy"; exit 2; }
	@$(BIN)/python -m pytest -m cluster -s

# The lowest versions that pyproject.toml allows, in an environment of their own.
FLOOR := .venv-floor

floor-test: pyproject.toml  ## a small set of tests and the demo on the lowest versions allowed
	@$(PYTHON) -m venv --clear $(FLOOR)
	@$(PYTHON) -m tests.kit.floors > $(FLOOR)/constraints.txt
	@$(FLOOR)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(FLOOR)/constraints.txt --editable . pytest pytest-asyncio hypothesis
	@$(FLOOR)/bin/python -m pytest tests/carriers tests/serializers tests/sockets tests/webhooks
	@cd $(FLOOR) && bin/gateway demo

# Pipecat beside the project, from the registry: the newest that pyproject.toml allows, and the lowest.
PIPECAT        := .venv-pipecat
PIPECAT_LOWEST := .venv-pipecat-lowest
PIPECAT_STAMPS := $(PIPECAT)/.installed $(PIPECAT_LOWEST)/.installed

$(PIPECAT_STAMPS): %/.installed: pyproject.toml
	@echo "installing Pipecat into $*, for a minute or two …"
	@$(PYTHON) -m venv --clear $*
	@$*/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@case $* in $(PIPECAT_LOWEST)) $(PYTHON) -m tests.kit.floors pipecat ;; esac > $*/constraints.txt
	@PYTHONWARNINGS=ignore $*/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $*/constraints.txt --group dev --editable '.[pipecat]'
	@touch $@

pipecat-test: $(PIPECAT_STAMPS)  ## real Pipecat bots on the newest Pipecat; in forked workers on the lowest, too
	@# Pipecat takes an older soxr than we would get without it
	@for env in $(PIPECAT_LOWEST) $(PIPECAT); do \
	  $$env/bin/python -m pytest tests/audio tests/pipecat/test_together.py -m "pipecat or not pipecat" || exit 1; \
	done
	@$(PIPECAT_LOWEST)/bin/python -m pytest -m pipecat tests/pipecat/test_bots.py -k forked
	@$(PIPECAT)/bin/python -m pytest -m pipecat -s

slow-test: $(STAMP)  ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow -s

lint: $(STAMP)  ## format, lint, types, import arrows
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint test  ## the gate: lint and tests

format: $(STAMP)  ## rewrite the sources in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Rooms that are covered by their own tests alone.
COVERED := serializers gateway/audio gateway/pool

coverage: $(STAMP)  ## branches covered: of three rooms by their own tests, 95 % or it fails; then of the whole by all
	@for room in $(COVERED); do \
	  echo "$$room, by its own tests:"; \
	  $(BIN)/python -m pytest tests/$${room#gateway/} --cov=$$room --cov-report=term --cov-fail-under=95 || exit 1; \
	done
	@echo "all, by all tests:"
	@$(BIN)/python -m pytest --cov --cov-report=term

bench: $(STAMP)  ## what it costs, measured on this machine, in about two minutes
	@$(BIN)/python -m tests.bench

clean:  ## remove the environment and caches
	rm -rf $(VENV) $(FLOOR) $(PIPECAT) $(PIPECAT_LOWEST) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
