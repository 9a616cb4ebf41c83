# The same commands on a newcomer's machine and everywhere else.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: run test check install benchmarks lock schema clean

run: $(INSTALLED)
	$(BIN)/python -m graph serve

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(INSTALLED)

$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Darkroom needs Python 3.11 or newer: make PYTHON=/path/to/python3 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

benchmarks: $(INSTALLED)
	$(BIN)/python -m benchmarks.uploads
	$(BIN)/python -m benchmarks.renditions
	$(BIN)/python -m benchmarks.delivery
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.executor
	$(BIN)/python -m benchmarks.library --sizes 1000,10000,100000

# After a change of the API: the difference shows in review.
schema: $(INSTALLED)
	$(BIN)/python -m graph export-schema --output schema.graphql

# After a change of the dependencies. Needs uv (https://docs.astral.sh/uv/).
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock:
	$(LOCK) pyproject.toml --group build --output-file requirements.lock
	$(LOCK) pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
