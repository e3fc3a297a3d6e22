# Every target bootstraps .venv by itself; the first one takes a few minutes, the next ones seconds.
# pip is used as you have set it up: PIP_* variables and pip.conf are never overridden.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Processes that share the tests; each takes about 3 GiB and starts a Prefect server of its own.
WORKERS ?= 2
# longtail's exit code 3 says that the gate blocked: a result, not a failure of the target.
OR_BLOCKED := || [ $$? -eq 3 ]

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-integration test-chaos lint format fuzz smoke ui deploy clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "ARGS=... is passed on, as in: make demo ARGS=--full, make test ARGS='-k gate -x'"
	@echo "PYTHON=... chooses the interpreter of .venv (3.11 or newer), as in: make test PYTHON=python3.13"

demo: $(VENV)/.demo ## Debian's package index: from the download to a promoted model or a blocked one
	$(BIN)/longtail demo $(ARGS) $(OR_BLOCKED)

smoke: $(VENV)/.dev ## The real flow over the tiny fixture, in build/smoke: about a minute
	rm -rf build/smoke
	$(BIN)/longtail retrain --config deployments/profiles/smoke.yaml --data tests/fixtures/tickets.jsonl \
	  --store build/smoke/store --out build/smoke/run $(ARGS) $(OR_BLOCKED)

test: $(VENV)/.dev ## The tests, but for those of the two targets below: minutes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore=tests/integration --ignore=tests/chaos $(ARGS)

test-integration: $(VENV)/.dev ## The tests against a real local Prefect server and worker
	$(BIN)/python -m pytest tests/integration -m integration $(ARGS)

test-chaos: $(VENV)/.dev ## Retrains killed with -9 at random moments; ARGS="--kills 100", "--seeds 1,2"
	$(BIN)/python tests/chaos/kill_runs.py $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy --strict, and the rules of which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Put the code into ruff's format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(VENV)/.fuzz ## The readers of exports against inputs made to break them, for 60 seconds
	$(BIN)/python tests/fuzz/fuzz_readers.py $(ARGS)

ui: $(VENV)/.demo ## Prefect's UI on this machine with Longtail's deployments and a worker; Ctrl-C stops it
	$(BIN)/python deployments/local.py up $(ARGS)

deploy: $(VENV)/.demo ## Longtail's deployments on the Prefect server that PREFECT_API_URL names
	$(BIN)/python deployments/local.py deploy $(ARGS)

clean: ## Remove .venv, build products and caches; stores and runs stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here: install Python 3.11 or newer (Debian: apt install python3 python3-venv)."; \
	  exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Longtail needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
	  echo "Name a newer one: make $(or $(MAKECMDGOALS),test) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian: apt install python3-venv)."; \
	  exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo $(VENV)/.dev $(VENV)/.fuzz: $(VENV)/.%: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing Longtail ($*) and what it stands on into $(VENV); the first time takes minutes."
	$(BIN)/python -m pip install -c constraints.txt -e '.[$*]'
	@touch $@
