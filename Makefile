# make reproduce            the whole paper over 1,000 seeds, into results/paper
# make reproduce SEEDS=64 OUT=somewhere     (QUICK=1: 16 seeds, into results/quick)
# make render OUT=somewhere tables, figures, claims and report again, from what was saved
# make audit                every algorithm at its own best, into results/audit (SEEDS, OUT, QUICK as above)
# make in-context           a self-teacher that reads its feedback, into results/in_context
# make test                 lint, types, tests
# make test-all             the same, every program compiled as users have it: an hour
# make lint                 lint, types
# make bench                speed, against what, and how it scales, into results/benchmarks
#                           (QUICK=1: a first look, into build/benchmarks; TORCH=0: no PyTorch,
#                           whose build for Linux is gigabytes; one that is installed is used)
# make docs                 docs/ as a site with a reference of every public name, into build/docs
# make lock                 the newest versions that pyproject.toml allows, into requirements*.lock
# make clean                remove .venv, caches and build output; results stay
#
# Everything runs in .venv, which the first command builds from requirements.lock with python3, or
# where that is older than 3.11 with a newer one found beside it; PYTHON=... chooses another.

VENV := .venv
BIN := $(VENV)/bin
# Written last in each half of the set-up, so that one which was cut off is never taken for whole.
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
SEEDS ?=
OUT ?=
QUICK ?=
TORCH ?= 1

NEW_ENOUGH := import sys, venv, ensurepip; print(sys.version_info >= (3, 11) or "")
# Looked for only where an environment is built: asking an interpreter takes time.
PYTHON ?= $(or $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do \
	test -z "$$($$name -c '$(NEW_ENOUGH)' 2>/dev/null)" || { echo $$name; break; }; done),python3)

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help reproduce render audit in-context test test-all lint bench docs lock clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

reproduce: $(READY)
	@$(BIN)/python -m sweeps reproduce $(if $(SEEDS),--seeds '$(SEEDS)') \
		$(if $(OUT),--out '$(OUT)') $(if $(filter-out 0,$(QUICK)),--quick)

render: $(READY)
	@$(BIN)/python -m sweeps render '$(or $(OUT),results/paper)'

in-context: $(READY)
	@$(BIN)/python -m sweeps in_context $(if $(SEEDS),--seeds '$(SEEDS)') \
		$(if $(OUT),--out '$(OUT)') $(if $(filter-out 0,$(QUICK)),--quick)

audit: $(READY)
	@$(BIN)/python -m sweeps audit $(if $(SEEDS),--seeds '$(SEEDS)') \
		$(if $(OUT),--out '$(OUT)') $(if $(filter-out 0,$(QUICK)),--quick)

# Most of the tests' time is compilation. What they compile is small and runs once, so all but
# those that look at the very bits are compiled without the passes that make code faster.
QUICKLY := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false \
	--xla_cpu_parallel_codegen_split_count=1
PYTEST := $(BIN)/python -m pytest -q -n auto --dist worksteal

test: lint
	@XLA_FLAGS="$$XLA_FLAGS $(QUICKLY)" $(PYTEST) -m "not as_shipped" || failed=1; \
		$(PYTEST) -m as_shipped || failed=1; test -z "$$failed"

test-all: lint
	@$(PYTEST) --slow

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/basedpyright --level error

# $(1) is the benchmark, $(2) what makes it short.
benchmark = $(BIN)/python -m benchmarks $(1) \
	$(if $(filter-out 0,$(QUICK)),$(2) --json build/benchmarks/$(1).json)

bench: $(VENV)/.numba $(if $(filter-out 0,$(TORCH)),$(VENV)/.torch)
	@$(call benchmark,throughput,--runs 512 --repeats 2)
	@$(call benchmark,peers,--repeats 2 --seconds 0.3)
	@$(call benchmark,scaling,--runs 10000 --repeats 1)
	@$(call benchmark,breakdown,--repeats 1)
	@$(call benchmark,startup,--seeds 16 --repeats 1)

# The notebooks are executed; one that has not changed since is not executed again.
docs: $(READY)
	@rm -rf build/docs
	@$(BIN)/python -m sphinx -q -W --keep-going -E -b html -c docs -d build/docs-work . build/docs
	@echo build/docs/index.html

# Fails with one line where $(1) can't make an environment.
define check_python
$(1) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "PYTHON: $(1) is missing or too old; allowed: Python 3.11 or newer (make PYTHON=...)" >&2; exit 2; }; \
$(1) -c 'import venv, ensurepip' 2>/dev/null || \
	{ echo "PYTHON: $(1) has no venv module; allowed: one that has (on Debian: python3-venv)" >&2; exit 2; }
endef

# Begun anew whenever the lock changes: nothing that an earlier lock named is left over.
$(LOCKED): requirements.lock
	@python='$(PYTHON)'; $(call check_python,$$python); \
		echo "Setting up $(VENV) from requirements.lock with $$($$python --version); takes a minute or two ..."; \
		rm -rf '$(VENV)' && $$python -m venv '$(VENV)'
	@$(call install_locked,requirements.lock)
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

# What the benchmarks compare with is installed when they first run.
install_locked = $(BIN)/python -m pip install -q --require-hashes --only-binary :all: -r $(1)

$(VENV)/.numba: $(READY) requirements-bench.lock
	@$(call install_locked,requirements-bench.lock)
	@touch $@

$(VENV)/.torch: $(READY) requirements-torch.lock
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(call install_locked,requirements-torch.lock)
	@touch $@

# One file for every Python from 3.11 on, Linux and macOS, with hashes and without the name of any
# index. It asks nothing of .venv, so a lock that can't be installed can still be made again.
# That of PyTorch is apart, so that the benchmarks can do without.
compile_lock = build/lock/bin/uv pip compile $(1) --no-config --universal --python-version 3.11 \
	--fork-strategy fewest --upgrade --generate-hashes --no-header --no-annotate \
	--no-emit-index-url -q -o $(2) && echo "$(2): $$(grep -c == $(2)) packages"
EXTRA := import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["optional-dependencies"][sys.argv[1]], sep="\n")

lock:
	@python='$(PYTHON)'; $(call check_python,$$python); \
		rm -rf build/lock && $$python -m venv build/lock
	@build/lock/bin/python -m pip install -q uv
	@$(call compile_lock,pyproject.toml --extra dev --extra export --extra dask --extra docs \
		--extra explore,requirements.lock)
	@for extra in bench torch; do \
		build/lock/bin/python -c '$(EXTRA)' $$extra > build/lock/$$extra.in && \
		$(call compile_lock,build/lock/$$extra.in -c requirements.lock,requirements-$$extra.lock) || \
		exit 1; done
	@rm -rf build/lock

clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
