# Everything from a fresh clone: `make test` and `make demo` fetch what they need. `make` lists the targets.
# ARGS are handed on: make test ARGS='tests/core -x', make demo ARGS=--once

ARGS ?=
FUZZ_SECONDS ?= 60
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install packages test lint format lock upgrade demo pictures bench soak chaos fuzz clean

help: ## List the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

install: $(INSTALLED) ## Make .venv with the locked packages (and an interpreter, if there is none that fits)

# Run again when what is to be installed has changed; .venv itself may be missing while the stamp's inputs are old.
$(INSTALLED): requirements-dev.lock pyproject.toml .python-version $(wildcard scripts/*.sh)
	@scripts/install.sh
	@touch $@

packages: ## Install the missing Debian packages (as root on Debian; else name them)
	@scripts/debian-packages.sh

test: packages install ## Run all tests, lint and types among them
	.venv/bin/python -m pytest $(ARGS)

lint: install ## Run ruff, mypy and shellcheck only
	.venv/bin/python -m pytest tests/test_project.py $(ARGS)

format: install ## Format the code
	.venv/bin/ruff check --quiet --fix-only .
	.venv/bin/ruff format .

lock: ## Make the lock files anew from pyproject.toml; pins that still fit are kept
	@scripts/lock.sh

upgrade: ## Make the lock files anew with the newest versions
	@scripts/lock.sh --upgrade

demo: packages install ## Run the demo: three services, real redirect rules where possible, a live table
	.venv/bin/sp-proxy demo $(ARGS)

pictures: packages install ## Take the README's pictures anew, of the demo's traffic
	.venv/bin/python -m tests.browser.pictures

bench: packages install ## Run the benchmarks beside Envoy, mitmproxy and proxy.py (20 minutes)
	.venv/bin/python -m benchmarks.run $(ARGS)

soak: install ## Soak the daemon: gRPC calls, gRPC connections, HTTP/1 that comes and goes (20 minutes; ARGS=--short: half a one)
	.venv/bin/python -m benchmarks.soak $(ARGS)

chaos: packages install ## Kill, stop and change everything in a pod beside Envoy at random (as root, 10 minutes; ARGS='--seed N')
	.venv/bin/python -m benchmarks.chaos.run $(ARGS)

fuzz: install ## Fuzz the HTTP/1 tap for FUZZ_SECONDS (60); what breaks a rule goes to artifacts/
	@mkdir -p artifacts .cache/fuzz/http1
	.venv/bin/python -m fuzz.http1_tap -max_total_time=$(FUZZ_SECONDS) -artifact_prefix=artifacts/ .cache/fuzz/http1 fuzz/corpus/http1

clean: ## Remove what was installed, built and cached here
	rm -rf .venv .tools .python .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist artifacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
