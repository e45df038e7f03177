# make setup | develop | demo | compare | notebooks | test | test-browser | test-long | fuzz | coverage | bench | gpu | gpu-train |
# docs | dist | format: each installs what it needs into .venv first, once, and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
# one file per extra of pyproject.toml that is installed
WITH := .venv/.with
DEMO := -c experiment/proposed -c model/small -c data/synthetic -c budget/demo
BENCHMARKS := training_step extraction evaluation growth mixing startup
RESULTS := benchmarks/results
FUZZ_INPUTS ?= 100000

.PHONY: setup develop demo compare notebooks test test-browser test-long fuzz coverage bench gpu gpu-train docs dist format

# to train, test, report and extract; listen, export and notebooks are extras of pyproject.toml
setup: $(WITH)-report

# all that the checks need
develop: $(WITH)-dev

$(WITH)-%: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

demo: $(WITH)-report
	$(BIN)/tse-refine fit $(DEMO) --overwrite
	$(BIN)/tse-refine test $(DEMO)
	$(BIN)/tse-refine report runs/demo --output runs/demo/report

compare: $(WITH)-report
	$(BIN)/tse-refine compare --output runs/compare

# in place, on what their first cells name: the small results in notebooks/results, or runs of one's own
notebooks: $(WITH)-notebook
	$(BIN)/jupyter execute --inplace --kernel_name=python3 notebooks/*.ipynb

test: $(WITH)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

# damaged files for every reader of foreign files, half an hour on two cores; what is at fault is kept in fuzz/
fuzz: $(WITH)-dev
	$(BIN)/python -m tests.fuzz --inputs $(FUZZ_INPUTS) --processes 2 --output fuzz

# what a person sees of `tse-refine listen`: needs Chromium, at /usr/bin/chromium or where CHROMIUM says
test-browser: $(WITH)-browser
	$(BIN)/python -m pytest -m browser tests

# what takes minutes: kills at random moments; several processes and machines; the GPU's benchmark on the CPU
test-long: $(WITH)-dev
	$(BIN)/python -m pytest -m long tests

# what docs/performance.md says of GPUs, in eight minutes on a machine with one, into benchmarks/results/gpu.json
gpu: $(WITH)-dev
	$(BIN)/python benchmarks/gpu.py

# the published network, trained for eight minutes on a GPU and tested: DATA='-c data/manifest' for recordings of your own
gpu-train: $(WITH)-dev
	$(BIN)/python benchmarks/gpu_train.py --data "$(or $(DATA),-c data/synthetic)"

# the lines that no test runs
coverage: $(WITH)-dev
	$(BIN)/python -m pytest --cov

# what steps, extraction, evaluation, mixing and starting cost, and how that grows, into benchmarks/results/: about ten
# minutes on two free cores
bench: $(WITH)-dev
	for name in $(BENCHMARKS); do \
		echo "$$name"; $(BIN)/python benchmarks/$$name.py --output $(RESULTS)/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/summary.py $(BENCHMARKS:%=$(RESULTS)/%.json) > $(RESULTS)/results.md

# the site into site/, which needs no network to be read: open site/index.html
docs: $(WITH)-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# a wheel and the sources, into dist/
dist: $(WITH)-dev
	$(BIN)/python -m build --outdir dist

format: $(WITH)-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
