# make setup | demo | test | test-browser | format: each installs into .venv first, once, and again only when
# pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := -c configs/proposed.yaml -c configs/model/small.yaml -c configs/data/embedded.yaml -c configs/demo.yaml

.PHONY: setup demo test test-browser format

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/tse-refine fit $(DEMO) --overwrite
	$(BIN)/tse-refine test $(DEMO)
	$(BIN)/tse-refine report runs/demo --output runs/demo/report

test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# what a person sees of `tse-refine listen`: needs Chromium, at /usr/bin/chromium or where CHROMIUM says
test-browser: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable '.[browser]'
	$(BIN)/python -m pytest -m browser tests

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
