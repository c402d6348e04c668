# A fresh Linux machine with make and Python 3.11 or newer needs nothing else.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
# TensorFlow leaves oneDNN off on x86 processors without VNNI, where it is nearly twice as fast.
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: demo test layers test-rl test-readers test-ray test-web docs soak clean

# A mark is younger than setup.py once the package is installed with the extras it is named for.
$(VENV)/installed: EXTRA =
$(VENV)/installed-test: EXTRA = [test]
$(VENV)/installed-rl: EXTRA = [test,rl]
$(VENV)/installed-readers: EXTRA = [test,readers]
$(VENV)/installed-ray: EXTRA = [test,ray]
$(VENV)/installed-web: EXTRA = [test,web]
$(VENV)/installed-docs: EXTRA = [docs]
$(VENV)/installed $(patsubst %,$(VENV)/installed-%,test rl readers ray web docs): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "emoc_tf needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.$(EXTRA)'
	@touch $@

demo: $(VENV)/installed
	$(BIN)/python -m emoc_tf.experiments.compare --preset=demo --output_dir=demo_results
	@echo "Look at demo_results/report.html"

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

# Whether imports point downwards only; `make test` holds it too.
layers: $(VENV)/installed-test
	$(BIN)/python -m pytest -q tests/test_layers.py

# Reinforcement-learning libraries as users of the environment: installs PyTorch. And tools that read
# what runs export: installs Hugging Face's datasets and Label Studio's SDK. And clusters: installs Ray.
test-rl test-readers test-ray: test-%: $(VENV)/installed-%
	$(BIN)/python -m pytest tests/$*

# The page where a person answers, with a real browser: needs chromium, chromedriver and npm.
test-web: $(VENV)/installed-web node_modules/axe-core
	EMOC_KILLS=20 EMOC_ANSWERS=2000 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=10 \
		tests/web tests/annotation/test_killed.py

node_modules/axe-core:
	npm install --no-save --no-package-lock --silent axe-core@4

# The pages, with the notebooks executed: docs/_build/html/index.html. A warning is an error.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

# Kills runs at random moments and compares them with a whole one; tries the books at length.
soak: $(VENV)/installed-test
	$(BIN)/python -m tests.running.soak --kills=30
	EMOC_CASES=1000 $(BIN)/python -m pytest -s tests/exploration/test_bookkeeping.py \
		tests/exploration/test_task_bookkeeping.py

clean:
	rm -rf $(VENV) demo_results build *.egg-info
