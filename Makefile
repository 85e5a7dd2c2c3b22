# The front door. `make demo` on a fresh Debian 12 or Ubuntu 24.04 installs what is missing, builds, and detects.
SHELL := /bin/bash
BUILD := build/release
JOBS ?= $(shell nproc)
WERROR ?= OFF
LAUNCHER := $(shell command -v ccache >/dev/null && echo -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)

.PHONY: build demo test bench fuzz format lint install clean

build: ## install what is missing and build the command
	@scripts/setup.sh
	@cmake --preset release -DOSPREY_WERROR=$(WERROR) $(LAUNCHER) > /dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target osprey

demo: build ## import the demo checkpoint, build its engine, detect, draw, evaluate
	@$(BUILD)/osprey demo -o out/demo

test: ## build everything and run every test
	@scripts/setup.sh
	@cmake --preset release -DOSPREY_WERROR=$(WERROR) $(LAUNCHER) > /dev/null
	@cmake --build $(BUILD) -j $(JOBS)
	@scripts/check_includes.py
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

bench: build ## measure against peers from PyPI, in a throw-away environment
	@bench/run.sh

fuzz: ## run every fuzz target for SECONDS (default 60)
	@scripts/setup.sh --dev
	@scripts/fuzz.sh all $(or $(SECONDS_EACH),60)

format: ## format our code
	@git ls-files '*.h' '*.cpp' | xargs clang-format -i

lint: ## clang-format and clang-tidy as errors, include directions
	@scripts/setup.sh --dev
	@scripts/lint.sh

install: build ## install to PREFIX (default /usr/local)
	@cmake --build $(BUILD) -j $(JOBS)
	@cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

clean:
	@rm -rf build out
