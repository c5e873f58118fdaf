# labwright in two commands: `make demo` and `make test`. `make help` names the others.

# Any Python from 3.11 to 3.13; say `make PYTHON=/path/to/python` to choose another.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11, \
	$(shell $(name) -c '$(SUITABLE)' 2>/dev/null && echo $(name))) python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup full system demo test test-long lint format clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

setup: ## make or check the two environments; nothing to do when they are right
	@$(PYTHON) infra/setup.py

full: ## set up, with the pretrained model of examples/full (93 MB more)
	@$(PYTHON) infra/setup.py --full

system: ## the browser that tests/browser looks at pages with, where we may install it
	@infra/system.sh

demo: setup ## set up, then run examples/quickstart.yaml
	$(BIN)/labwright run examples/quickstart.yaml

test: setup system lint ## set up, then everything that CI checks
	$(BIN)/pytest

test-long: setup system ## set up, then the tests that take long
	$(BIN)/pytest -m long --timeout 7200

lint: setup ## ruff, mypy --strict and the layers of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## sort imports and lay the code out
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what can be made again here, the core environment included; not LABWRIGHT_HOME
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
