# make setup && make demo is all that a newcomer needs. CONTRIBUTING.md says what each verb does.
SHELL := /bin/bash
BIN := .venv/bin
# The demo, the tests and the agents start programs of the virtual environment by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where the environment says so, no process keeps what it compiles: each would compile all of ours.
unexport PYTHONDONTWRITEBYTECODE
CORES := $(shell getconf _NPROCESSORS_ONLN)
# Many tests wait for processes that they started: five to two cores keep them busy.
TEST_WORKERS ?= $(shell echo $$(($(CORES) * 5 / 2)))
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup parts demo test check fix bench bench-delta bench-fleet faults-fleet faults-writes bench-serve test-matrix reference protos arm64 clean

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

setup: .venv/installed ## make .venv with everything (needs Python 3.11 or newer)

.venv/installed: pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh
	@touch $@

parts: ## install the Debian packages that some tests need
	@scripts/install-parts.sh

demo: setup ## show the whole loop on this machine, in under a minute
	@packhorse demo --devices 3 $(ARGS)

test: setup parts ## run every test
	@mkdir -p build/reports
	TMPDIR=$$(scripts/find-scratch) python -m pytest -n $(TEST_WORKERS) --dist worksteal --junitxml build/reports/tests.xml $(ARGS)

check: setup ## formatting, lint, types, import contracts
	ruff format --check .
	ruff check .
	mypy --num-workers $(CORES)
	mypy scripts/*.py
	@set -e; for example in examples/*/; do mypy "$$example"; done
	lint-imports

fix: setup ## format, and mend what the linter can mend
	ruff format .
	ruff check --fix .

reference: setup ## write docs/reference/ anew from the code
	python scripts/generate_reference.py
	python scripts/generate_openapi.py

test-matrix: setup parts ## run the device tests on Python 3.10 and 3.13
	@mkdir -p build/reports
	@TEST_WORKERS=$(TEST_WORKERS) scripts/test-matrix.sh

bench: setup ## measure; docs/benchmarks.md explains each figure
	@set -e; for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; python "$$bench" $(ARGS); done

protos: setup ## write the gRPC messages anew from their .proto file
	python scripts/generate_protos.py

bench-serve: setup ## measure the inference server against floors and other servers (15 minutes)
	@scripts/install-bench-peers.sh
	python tests/benchmarks/bench_serve.py $(ARGS)

bench-fleet: setup ## measure how long 1,000 to 10,000 simulated devices take to acknowledge (25 minutes)
	python tests/benchmarks/bench_fleet.py $(ARGS)

faults-fleet: setup ## break 1,000 simulated devices in every way; nothing may be stuck or told twice (35 minutes)
	python tests/benchmarks/faults_fleet.py $(ARGS)

faults-writes: setup ## kill the agent at each of its durable writes, one after the other (5 minutes)
	EVERY_WRITE=1 python -m pytest -n 3 tests/faults/test_kill_writes.py $(ARGS)

arm64: setup ## prove that a device with arm64 finds a wheel of everything (asks the package index)
	python scripts/check_arm64_wheels.py $(ARGS)

bench-delta: setup parts ## measure updates against xdelta3, bsdiff and zstd --patch-from
	python tests/benchmarks/bench_delta.py $(ARGS)

clean: ## back to a fresh clone
	rm -rf build dist .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
