# A fresh Linux machine with make and Python 3.11 or newer needs nothing else.
PYTHON ?= python3
VENV = .venv
BIN = $(VENV)/bin
# TensorFlow leaves oneDNN off on x86 processors without VNNI, where it is nearly twice as fast.
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: demo test test-lowest check layers lint types coverage bench docs test-rl test-readers test-ray test-web soak clean

# A mark is younger than setup.py once the package is installed with the extras it is named for.
$(VENV)/installed: EXTRA =
$(VENV)/installed-test: EXTRA = [test]
$(VENV)/installed-rl: EXTRA = [test,rl]
$(VENV)/installed-readers: EXTRA = [test,readers]
$(VENV)/installed-ray: EXTRA = [test,ray]
$(VENV)/installed-web: EXTRA = [test,web]
$(VENV)/installed-docs: EXTRA = [docs]
$(VENV)/installed-lint: EXTRA = [lint]
$(VENV)/installed-coverage: EXTRA = [test,coverage]
$(VENV)/installed-check: EXTRA = [test,docs,lint]
$(VENV)/installed $(patsubst %,$(VENV)/installed-%,test rl readers ray web docs lint coverage check): setup.py
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

# The same with the oldest releases that setup.py takes, in an environment of its own: Python 3.11.
# The oldest linter of layers colours what it prints, which its tests do not read.
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint .ci/lowest.txt --editable '.[test]'
	$(VENV)-lowest/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder \
		--ignore=tests/test_layers.py

# The three that a change has to pass: installed at once, and the pages are built beside the types.
check: $(VENV)/installed-check
	@touch $(patsubst %,$(VENV)/installed-%,test docs lint)
	$(MAKE) --jobs=2 --output-sync=target lint docs
	$(MAKE) test

# Whether imports point downwards only; `make test` holds it too.
layers: $(VENV)/installed-test
	$(BIN)/python -m pytest -q tests/test_layers.py

lint: types
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

# mypy on the library as a wheel unpacks it: there alone `emoc_tf.agents` lies inside `emoc_tf`.
types: $(VENV)/installed-lint
	rm -rf build/types
	$(BIN)/python setup.py --quiet build_py --build-lib build/types
	cd build/types && $(abspath $(BIN)/python) -m mypy --config-file $(abspath pyproject.toml) -p emoc_tf

# Which lines the tests reach, also in processes that they start; twice as slow as `make test`.
coverage: $(VENV)/installed-coverage
	$(BIN)/python -m coverage erase
	-$(BIN)/python -m coverage run -m pytest -n 2 --dist loadscope --no-loadscope-reorder
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# What takes minutes: exact scores, an update's iterations, a whole step, checkpoints, odds of novelty.
bench: export TF_CPP_MIN_LOG_LEVEL ?= 2
bench: $(VENV)/installed
	$(BIN)/python benchmarks/scoring.py --contestants='emoc_tf float32'
	$(BIN)/python benchmarks/learner.py --rounds=3
	$(BIN)/python benchmarks/stepping.py
	$(BIN)/python benchmarks/checkpoints.py --steps=3
	$(BIN)/python benchmarks/novelty.py

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
	rm -rf $(VENV) $(VENV)-lowest demo_results build *.egg-info .coverage*
