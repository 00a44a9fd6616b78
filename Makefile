# Everything sets up what it needs in .venv, and quickly when nothing changed.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/.run.stamp
DEV := $(BIN)/.dev.stamp
ARGS ?=

.PHONY: demo test soak check format bench claims screenshots clean

demo: $(RUN)
	$(BIN)/python app.py --demo $(ARGS)

test: check browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

# What takes too long for every change: hundreds of merges with faults on the way.
soak: $(DEV)
	$(BIN)/python -m pytest -n 2 $(ARGS) tests/soak/sweep_*.py
	$(BIN)/python -m pytest -n 2 $(ARGS) --soak tests/merging/test_resume.py tests/merging/test_delivery.py tests/merging/test_memory.py

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV)
	$(BIN)/python -m benchmarks $(ARGS)

# Trains small models and tries on them what the papers say of merging; with ARGS=--write the table is kept.
claims: $(DEV)
	$(BIN)/python -m benchmarks.claims $(ARGS)

screenshots: browser
	$(BIN)/python -m space.demo.screenshots

.PHONY: browser
browser: $(DEV)
	@PYTHON=$(BIN)/python ./.ci/browser

$(BIN)/python:
	$(PYTHON) -m venv .venv

# torch first and alone: what is installed satisfies everything that asks for it later.
$(RUN): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
