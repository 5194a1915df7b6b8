# make demo, make test, make test-all, make docs, make clean. Another Python: make demo PYTHON=python3.12
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
DEMO_READY := $(VENV)/.installed-train
TEST_READY := $(VENV)/.installed-dev

.DELETE_ON_ERROR:
.PHONY: help demo test test-all check docs clean

help:
	@echo "make demo      install into .venv and run the demo: two small models, trained and compared"
	@echo "make test      install into .venv, then linter, import order, types and the quick tests"
	@echo "make test-all  the same with the slow tests"
	@echo "make docs      build the documentation into site/"
	@echo "make clean     remove what was built and cached; .venv stays"

demo: $(DEMO_READY)
	$(BIN)/detrofit demo

test: check
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

test-all: check
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

check: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: $(TEST_READY)
	$(BIN)/mkdocs build --strict

# A stamp is newer than pyproject.toml as long as what that file asks for is installed.
$(TEST_READY): pyproject.toml $(BIN)/pip
	$(BIN)/python -m pip install -e ".[dev]"
	@touch $(TEST_READY) $(DEMO_READY)

$(DEMO_READY): pyproject.toml $(BIN)/pip
	$(BIN)/python -m pip install -e ".[train]"
	@touch $(DEMO_READY)

# Without prerequisites: made once, and left alone from then on.
$(BIN)/pip:
	@command -v "$(PYTHON)" >/dev/null \
	  || { echo "error: there is no '$(PYTHON)' here; install Python 3.10 or newer"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "error: Python 3.10 or newer is needed, and '$(PYTHON)' is $$("$(PYTHON)" -V);" \
	       "name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

clean:
	rm -rf build dist site src/*.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
