# make setup | quickstart | test | test-slow | check | format
PYTHON ?= python3
BIN := .venv/bin
RUN := runs/quickstart-$(shell date +%Y%m%d-%H%M%S)

.PHONY: setup quickstart test test-slow lint check format

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: setup
	$(BIN)/resnetkit data cifar10 --samples $(RUN)-samples
	$(BIN)/resnetkit train quickstart --out $(RUN)
	$(BIN)/resnetkit predict $(RUN) $(RUN)-samples --top 3
	$(BIN)/resnetkit report $(RUN)

test: setup
	$(BIN)/pytest

test-slow: setup
	$(BIN)/pytest -m slow --timeout 3600

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint test

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
