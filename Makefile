# make demo: set up, render a film of four prompts on this machine, print its path.
# make test: set up, run every test.  make lint: style, formatting, types.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint format weights clean

demo: .venv/longvid.stamp
	$(BIN)/longvid render timelines/demo.yaml -o demo.mp4 --fresh --overwrite

test: .venv/dev.stamp
	$(BIN)/pytest --numprocesses=auto --dist=loadfile

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# diorama's weights from nothing: hours on two cores, see longvid/backends/diorama/weights/MODEL_CARD.md.
weights: .venv/training.stamp
	$(BIN)/longvid finetune diorama --model diorama --train all -o runs/diorama

# constraints.txt holds the versions that were tested together; torch's CPU build serves where there is no card.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.venv/longvid.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("longvid needs Python 3.11 or newer; try: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/training.stamp: .venv/longvid.stamp
	$(INSTALL) '.[training]'
	touch $@

.venv/dev.stamp: .venv/longvid.stamp
	$(INSTALL) '.[dev]'
	touch $@

clean:
	rm -rf .venv build demo.mp4 demo.longvid
