# `make demo` and `make test` make their own environment, .venv, on a fresh machine.

PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_FLAGS)

.PHONY: help demo test test-faults check format clean

help:
	@echo "make demo    train the example grid on digits and draw figures/rd-digits.png (and .pdf)"
	@echo "make test    run the tests"
	@echo "make test-faults  kill sweeps and fill disks: the slower tests (minutes)"
	@echo "make check   formatting, lint, types, import layering"
	@echo "make format  rewrite the sources in the project's format"
	@echo "make clean   remove the environment and caches"
	@echo "PIP_FLAGS='...' is passed to pip, for example to name an index of CPU builds of torch."

$(VENV)/core: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rdvae needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing PyTorch into $(VENV), step 1 of 2: this takes a few minutes"
	$(PIP) torch
	@echo "Installing rdvae and what it needs into $(VENV), step 2 of 2: about a minute"
	$(PIP) -e '.[report]'
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "Installing what the tests need into $(VENV): about a minute"
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/core
	$(BIN)/rdvae sweep --betas 1e-4..1e3 --architecture mlp --latents 8 --epochs 200 --lr 3e-3 \
		--checkpoints last --draws 4 --out runs/demo
	$(BIN)/rdvae plot-rd runs/demo --out figures/rd-digits.png --out figures/rd-digits.pdf
	@echo
	@echo "To use rdvae in this shell:       source $(BIN)/activate"
	@echo "and then, for instance:           rdvae report runs/demo --out report.html"
	@echo "Without activating it:            $(BIN)/rdvae --help"

test: $(VENV)/dev
	$(BIN)/python -m pytest -m "not faults" -n 2

test-faults: $(VENV)/dev
	$(BIN)/python -m pytest -m faults -n 2 --durations 5

check: $(VENV)/dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
