# make demo      serve a tiny GLM-5.2 on the CPU, ask it something, shut it down
# make test      every test that needs no GPU
# make lint      ruff: rules and format
# make test-gpu  the tests that need a GPU
# make clean     remove both environments and all caches
#
# PYTHON=/path/to/python3.11 picks the interpreter both environments are made with. TEST_PROCESSES=1 runs the tests one
# after the other; each process may start a server of some 4 GB. TORCH_CPU_ARGS are pip's options for the reference's
# torch, to have a build for CPUs.

.DEFAULT_GOAL := test
.DELETE_ON_ERROR:
.PHONY: demo test lint test-gpu clean

IS_SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.10 python3; do \
    $$p -c '$(IS_SUPPORTED)' 2>/dev/null && { echo $$p; break; }; done)
endif

# A recipe line: stop before a wrong interpreter makes an environment that fails much later.
CHECK_PYTHON = @'$(PYTHON)' -c '$(IS_SUPPORTED)' 2>/dev/null || { \
    echo "PYTHON='$(PYTHON)' ($$('$(PYTHON)' --version 2>&1)) is not a Python 3.10, 3.11 or 3.12;" \
         "set PYTHON=/path/to/python3.11" >&2; exit 2; }

TEST_PROCESSES := 2
VENV := .venv/.complete
REFERENCE := .venv-reference/.complete

demo: $(VENV)
	.venv/bin/glm52 demo

test: $(VENV) $(REFERENCE)
	.venv/bin/python -m pytest -m "not gpu" --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

lint: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

test-gpu: $(VENV)
	.venv/bin/python -m pytest -m gpu

clean:
	rm -rf .venv .venv-reference .pytest_cache .hypothesis .ruff_cache build dist ./*.egg-info
	find sglang_glm52 tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment the plugin runs in: SGLang and its pins, this package in place of a copy.
$(VENV): constraints.txt pyproject.toml
	$(CHECK_PYTHON)
	'$(PYTHON)' -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The environment of the transformers reference, which needs a newer transformers than SGLang pins.
$(REFERENCE): constraints-reference.txt
	$(CHECK_PYTHON)
	'$(PYTHON)' -m venv .venv-reference
	.venv-reference/bin/python -m pip install --quiet $(TORCH_CPU_ARGS) torch==2.13.0
	.venv-reference/bin/python -m pip install --quiet --requirement constraints-reference.txt
	touch $@
