# `make run` sets everything up and starts a chat; `make test` passes the tests. See README.md.

SHELL := /bin/sh
CARGO ?= cargo
PYTHON ?= python3
BIN := target/release/llamahome

.PHONY: run build test lint doc setup coverage miri asan bench clean help

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

run: build ## Set up, then chat with the default model (piped input: answer each line)
	@$(BIN)

build: setup ## Build target/release/llamahome
	@$(CARGO) build --release --bin llamahome

setup: ## Fetch libtorch and the tests' model once into a cache outside of the clone
	@$(PYTHON) scripts/setup.py

test: ## Run the tests, those with outside clients and a browser too
	@$(PYTHON) scripts/setup.py --clients --page
	$(CARGO) test
	LLAMAHOME_CLIENTS=$(CURDIR)/.deps $(CARGO) test --test clients -- --ignored
	LLAMAHOME_BROWSER=$(CURDIR)/.deps/browser LLAMAHOME_AXE=$(CURDIR)/.deps/axe.js $(CARGO) test --test page -- --ignored

lint: ## Check formatting, lints and documentation
	@$(PYTHON) scripts/setup.py
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps

coverage: ## Line coverage by file (needs cargo-llvm-cov and rustup's llvm-tools)
	@$(PYTHON) scripts/setup.py
	$(CARGO) llvm-cov --summary-only

miri: ## Run the kernels' tests in Miri, on the plain path (needs a nightly toolchain with miri; takes the better part of an hour)
	cd tests/kernels && MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-deterministic-floats" $(CARGO) +nightly miri test

asan: ## Run the kernels' tests under the address sanitizer, on every path of this processor (needs a nightly toolchain)
	cd tests/kernels && RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --target $(shell rustc -vV | sed -n 's/host: //p')

bench: build ## Time prefill and decode of the default model
	@$(BIN) bench smollm2

clean: ## Remove what cargo built; the cache of libtorch stays
	$(CARGO) clean
