# make reproduce            the whole paper over 1,000 seeds, into results/paper
# make reproduce SEEDS=64 OUT=somewhere   (QUICK=1: 16 seeds)
# make render OUT=somewhere tables, figures, claims and report again, from what was saved
# make test                 lint, types, tests
# Everything runs in .venv, which the first command builds from requirements.lock.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEEDS ?=
OUT ?=
QUICK ?=
# The first interpreter that is new enough; PYTHON=... chooses another.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python3.14,\
	$(if $(shell $(name) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(name))) python3)

export PYTHONUNBUFFERED := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help reproduce render test lint lock clean

help:
	@sed -n '/^# make/s/^# //p' Makefile

reproduce: $(READY)
	@$(BIN)/python -m sweeps reproduce $(if $(SEEDS),--seeds $(SEEDS)) $(if $(OUT),--out $(OUT)) $(if $(filter 1,$(QUICK)),--quick)

render: $(READY)
	@$(BIN)/python -m sweeps render $(if $(OUT),$(OUT),results/paper)

test: lint
	@$(BIN)/python -m pytest -q -n auto --dist worksteal

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/basedpyright --level error

# The stamp is written last, and the environment is begun anew without it, so that a set-up that
# was cut off leaves nothing half done.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "PYTHON: $(PYTHON) is missing or too old; allowed: Python 3.11 or newer (make PYTHON=...)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "PYTHON: $(PYTHON) has no venv module; install it (python3-venv on Debian)" >&2; exit 2; }
	@echo "Setting up $(VENV) from requirements.lock ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $(READY)

# Exact versions with hashes for every Python from 3.11 on, without the name of any index.
lock: $(READY)
	@$(PYTHON) -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install -q uv
	@$(VENV)/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --upgrade -q -o requirements.lock

clean:
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
