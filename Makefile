# `make help` lists what can be made. The virtual environment makes itself.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help demo test test-full check coverage mutants format docs bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: .venv/ready ## train a private federation on the data that ships with it (under 3 minutes)
	$(BIN)/bract simulate

test: .venv/ready ## run the tests on all cores (under 10 minutes on two)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m 'not full'

test-full: .venv/ready ## run all tests, the long ones too
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: .venv/ready ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(MAKE) test-full

coverage: .venv/ready ## report which branches of privacy/ its own tests take
	@mkdir -p build
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m 'not full' --cov=privacy tests/privacy tests/test_doctests.py

mutants: .venv/ready ## change one thing of privacy/ at a time, 500 times, and list what no test notices (an hour or more)
	$(BIN)/python tests/mutants.py

format: .venv/ready ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

docs: .venv/docs ## build the site of docs/ and the API reference: build/docs/site/index.html
	$(BIN)/python docs/build_site.py

bench: .venv/ready ## measure accuracy, speed and accounting against the peers
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit; done

clean: ## remove everything that was made
	rm -rf .venv .data runs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
