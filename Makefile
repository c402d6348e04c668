# A fresh Linux machine with make and Python 3.11 or newer needs nothing else.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin

.PHONY: demo test clean

# A mark is younger than setup.py once the package is installed, with its test extra or without.
$(VENV)/installed: EXTRA =
$(VENV)/installed-test: EXTRA = [test]
$(VENV)/installed $(VENV)/installed-test: setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "emoc_tf needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRA)'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python -m emoc_tf.experiments.compare --preset=demo --output_dir=demo_results
	@echo "Look at demo_results/curves.png"

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadscope

clean:
	rm -rf $(VENV) demo_results build *.egg-info
