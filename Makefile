# make setup | quickstart | test | test-slow | parity | check | format
PYTHON ?= python3
BIN := .venv/bin
PARITY := .venv-parity
RUN := runs/quickstart-$(shell date +%Y%m%d-%H%M%S)

.PHONY: setup quickstart test test-slow parity lint check format

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

# two at a time, one thread each: on two cores less time than one after the other
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile

test-slow: setup
	$(BIN)/pytest -m slow --timeout 3600

# mmpretrain, timm and transformers live in an environment of their own; mmcv warns when it is imported
parity: $(PARITY)/.installed
	$(PARITY)/bin/pytest -W default tests/parity
	$(PARITY)/bin/python tests/parity/run.py

$(PARITY)/.installed: pyproject.toml tests/parity/constraints.txt
	$(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/pip install --disable-pip-version-check --constraint tests/parity/constraints.txt --editable '.[export]' \
		datasets hypothesis matplotlib mmcv-lite mmengine mmpretrain pytest pytest-timeout timm torchvision transformers webdataset
	touch $@

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check: lint test

format: setup
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
