# Everything sets itself up: `make demo` and `make test` need Python 3.11, pip, git and make.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-project

.PHONY: demo demo-seeds demo-kills test check lint types example-advisories bench-statistics bench-dpo clean

demo: $(READY)
	$(BIN)/fairlead demo --out $(OUT)

demo-seeds: $(READY)
	$(BIN)/python benchmarks/demo_seeds.py

demo-kills: $(READY)
	$(BIN)/python benchmarks/demo_kills.py

test: $(READY)
	$(BIN)/python -m pytest

check: lint types

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

example-advisories: $(READY)
	$(BIN)/python examples/advisories/make_project.py
	$(BIN)/fairlead run examples/advisories/project

bench-statistics: $(READY)
	$(BIN)/python benchmarks/bench_statistics.py

bench-dpo: $(READY)
	$(BIN)/python benchmarks/bench_dpo.py

# The stamp is written last, so that a set-up that was cut off is done again.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) $(OUT) examples/*/project benchmarks/out
