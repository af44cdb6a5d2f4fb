# Three commands are the manual: make run, make test, make check.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SEEDS ?= 200
SEQUENCES ?= 5000
JOBS ?= $(shell nproc)
# Many tests wait for processes of their own: two at a time on each processor. Behind them come those that put clusters
# under load, one on each processor, and last those that nothing may disturb.
WORKERS := $(shell expr 2 \* $(JOBS))

# Many tests are of real processes, and share the processors with others: what fails has one more try, by itself.
AGAIN := $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none

.PHONY: run test check bench sim soak differential libraries clean install

install: $(STAMP)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

run: $(STAMP)
	@$(BIN)/peerkv up

test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup --no-loadscope-reorder -m "not few and not alone" \
		|| $(AGAIN) -m "not few and not alone"
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -m few || $(AGAIN) -m few
	$(BIN)/python -m pytest -q -m alone || $(AGAIN) -m alone

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

bench: $(STAMP)
	$(BIN)/python -m bench

sim: $(STAMP)
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --jobs $(JOBS)
	$(BIN)/python -m tests.sim --transactions --seeds $(SEEDS) --jobs $(JOBS) --slots 256 --seconds 30
	$(BIN)/python -m tests.sim --loss --seeds $(SEEDS) --jobs $(JOBS) --slots 256 --seconds 30

soak: $(STAMP)
	$(BIN)/python -m tests.sim --seeds 2000 --jobs $(JOBS)
	$(BIN)/python -m tests.sim --transactions --seeds 2000 --jobs $(JOBS) --slots 256 --seconds 30
	$(BIN)/python -m tests.sim --seeds 200 --slots 16384 --jobs $(JOBS)
	$(BIN)/python -m tests.sim --loss --seeds 1000 --jobs $(JOBS) --slots 256 --seconds 30

differential: $(STAMP)
	$(BIN)/python -m tests.differential --sequences $(SEQUENCES)

# Popular libraries, in an environment of their own: what their authors ask of each other is none of ours.
LIBRARIES := .venv-libraries
libraries: $(LIBRARIES)/.installed

$(LIBRARIES)/.installed: tests/libraries/requirements.txt
	@test -x $(LIBRARIES)/bin/python || $(PYTHON) -m venv $(LIBRARIES)
	@$(LIBRARIES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r $<
	@touch $@

clean:
	rm -rf $(VENV) $(LIBRARIES) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
