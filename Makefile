# Two commands on a fresh machine: `make demo` and `make test`. Both set everything up first (scripts/setup.sh says how)
# and skip that when nothing has changed.
SHELL := /bin/bash
PY := .venv/bin/python
# One thread a library: tests and nodes are many processes, which otherwise fight for the cores.
export OMP_NUM_THREADS ?= 1
# Arguments: make demo ARGS="--size small --no-serve", make test ARGS="-k ledger"
ARGS ?=

.PHONY: demo test test-long lint setup clean help
help:
	@echo "make demo       set up, scan a simulated store over ROS 2, sync its WMS, print the result"
	@echo "make test       set up, then the tests that need no GPU and no hour"
	@echo "make test-long  set up, then the rest: many seeds, campaigns, kills"
	@echo "make lint       ruff and mypy --strict"
	@echo "make clean      remove what was built, .venv included"

setup:
	@scripts/setup.sh
demo: setup
	@.venv/bin/shelfscan demo $(ARGS)
test:
	@scripts/setup.sh --browser
	@scripts/test.sh "not long and not gpu" $(ARGS)
test-long:
	@scripts/setup.sh --browser
	@scripts/test.sh "long and not gpu" $(ARGS)
lint: setup
	$(PY) -m ruff check .
	$(PY) -m mypy
clean:
	rm -rf .venv build dist src/*.egg-info ros2_ws/build ros2_ws/install ros2_ws/log
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find src tests training launch -name __pycache__ -prune -exec rm -rf {} +
