# Every target calls `dtql-jax COMMAND` or `python -m experiments.NAME`, which work without make too.
# Values may hold spaces: make train OUT="runs/my run".
#   make train ENV=antmaze-umaze SEEDS=5 PRESET=paper STEPS=100000 SOURCE=auto OUT=runs/mine
# More settings: ARGS="--config.batch_size=512 --config.algorithm.alpha=5"

PYTHON ?= python3
VENV ?= .venv
RUN_PYTHON = $(VENV)/bin/python
READY = $(VENV)/.ready
CHECKS = $(VENV)/.checks
PIP = $(RUN_PYTHON) -m pip install -qq --disable-pip-version-check
# uv takes seconds and pip a minute; pip is used where uv cannot be installed or fails
install = { $(PIP) uv && $(RUN_PYTHON) -m uv pip install --quiet --python $(RUN_PYTHON) $(1); } 2>/dev/null || $(PIP) $(1)

ENV ?= pointmaze-umaze
PRESET ?= auto
ALGO ?= dtql
# --flag='value' of a variable, if it is set
quote = '$(subst ','\'',$(1))'
given = $(if $($(1)),--$(2)=$(call quote,$($(1))))

.DEFAULT_GOAL := help
.PHONY: help setup train resume reproduce evaluate compare sweep report export video decisions data data-info wheel bench test test-slow soak check docs types lint hooks lock clean
.PHONY: bandits theory two-modes ablate finetune table

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(READY)  ## Make the Python environment in .venv (Python 3.11 or newer)

$(READY): requirements.lock setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); expected Python 3.11 or newer (make PYTHON=python3.12 ...)" >&2; exit 2; }
	@echo "making the Python environment in $(VENV) (about a minute, 1 GB)"
	@$(PYTHON) -m venv $(VENV)
	@$(call install,-r requirements.lock)
	@$(call install,--no-deps --editable .)
	@touch $(READY)

train: $(READY)  ## Get the data, train, evaluate: ENV= PRESET= ALGO= SEEDS= STEPS= SOURCE= OUT= ARGS=
	@$(RUN_PYTHON) -m dtql_jax train --env=$(call quote,$(ENV)) --preset=$(call quote,$(PRESET)) --algorithm=$(call quote,$(ALGO)) $(call given,SEEDS,seeds) $(call given,STEPS,steps) $(call given,SOURCE,source) $(call given,OUT,out) $(ARGS)

resume: $(READY)  ## Continue a stopped run: RUN=
	@$(RUN_PYTHON) -m dtql_jax resume --run=$(call quote,$(RUN)) $(ARGS)

reproduce: $(READY)  ## Repeat a run from its record and compare bit for bit: RUN= OUT=
	@$(RUN_PYTHON) -m dtql_jax reproduce --run=$(call quote,$(RUN)) $(call given,OUT,out) $(ARGS)

evaluate: $(READY)  ## Evaluate the newest checkpoint of a run: RUN= EPISODES=
	@$(RUN_PYTHON) -m dtql_jax evaluate --run=$(call quote,$(RUN)) $(call given,EPISODES,episodes) $(ARGS)

sweep: $(READY)  ## Train a grid of hyperparameters, seeds and tasks: ENV= SEEDS= OUT= ARGS="--sweep alpha=0.5,1,5"
	@$(RUN_PYTHON) -m dtql_jax sweep --env=$(call quote,$(ENV)) --preset=$(call quote,$(PRESET)) --algorithm=$(call quote,$(ALGO)) $(call given,SEEDS,seeds) $(call given,STEPS,steps) $(call given,SOURCE,source) $(call given,OUT,out) $(ARGS)

compare: $(READY)  ## Compare all algorithms on a task, with the same data, updates and seeds: ENV= OUT=
	@$(RUN_PYTHON) -m experiments.compare $(if $(filter file,$(origin ENV)),,--env=$(call quote,$(ENV))) $(call given,SEEDS,seeds) $(call given,OUT,out) $(ARGS)

table: $(READY)  ## The paper's table, into results/: TASKS= SEEDS= SOURCE= OUT=; FULL=1 in paper size
	@$(RUN_PYTHON) -m experiments.paper_table $(if $(FULL),--preset=paper) $(call given,TASKS,tasks) $(call given,SEEDS,seeds) $(call given,SOURCE,source) $(call given,OUT,out) $(ARGS)

report: $(READY)  ## An HTML page of one run or several: RUN=A,B OUT=
	@$(RUN_PYTHON) -m dtql_jax report --run=$(call quote,$(RUN)) $(call given,OUT,out) $(ARGS)

export: $(READY)  ## A run's policy as one file that runs with JAX alone: RUN= OUT= (ARGS=--npz)
	@$(RUN_PYTHON) -m dtql_jax export --run=$(call quote,$(RUN)) $(call given,OUT,out) $(ARGS)

video: $(READY)  ## Film episodes of a run's policy: RUN= OUT=film.mp4 (ARGS=--episodes=3)
	@$(RUN_PYTHON) -m dtql_jax video --run=$(call quote,$(RUN)) $(call given,OUT,out) $(ARGS)

decisions: $(READY)  ## Candidates, diffusion samples and Q at states of a point maze: RUN= OUT=
	@$(RUN_PYTHON) -m dtql_jax decisions --run=$(call quote,$(RUN)) $(call given,OUT,out) $(ARGS)

bandits: $(READY)  ## The paper's 2D bandits, trust region against KL: OUT= FULL=1
	@$(RUN_PYTHON) -m experiments.bandits $(if $(FULL),--full) $(call given,OUT,out) $(ARGS)

theory: $(READY)  ## The trust-region loss against -log p, EDM's weight and the ELBO's: OUT=
	@$(RUN_PYTHON) -m experiments.theory $(call given,OUT,out) $(ARGS)

two-modes: $(READY)  ## DTQL, DQL and IDQL where two modes are equally good: OUT=
	@$(RUN_PYTHON) -m experiments.two_modes $(call given,OUT,out) $(ARGS)

finetune: $(READY)  ## Continue an offline run online, against offline and from scratch: RUN= STEPS= OUT=
	@$(RUN_PYTHON) -m experiments.finetune --run=$(call quote,$(RUN)) $(call given,STEPS,steps) $(call given,OUT,out) $(ARGS)

ablate: $(READY)  ## The paper's ablations on three tasks, tables and a figure: OUT= FULL=1
	@$(RUN_PYTHON) -m experiments.ablations $(if $(FULL),--full) $(call given,OUT,out) $(ARGS)

data: $(READY)  ## Get or collect a task's data, without training: ENV= SOURCE=
	@$(RUN_PYTHON) -m dtql_jax data --env=$(call quote,$(ENV)) $(call given,SOURCE,source) $(ARGS)

data-info: $(READY)  ## Describe a task's data, with figures: ENV= SOURCE= OUT=
	@$(RUN_PYTHON) -m dtql_jax data-info --env=$(call quote,$(ENV)) $(call given,SOURCE,source) $(call given,OUT,out) $(ARGS)

wheel: $(READY)  ## Build the wheel into dist/ and try it in fresh environments
	@rm -rf build dist && $(PIP) build
	@$(RUN_PYTHON) -m build --wheel --outdir dist . >/dev/null
	@$(RUN_PYTHON) tests/try_wheel.py dist/*.whl

bench: $(READY)  ## Every benchmark, into benchmarks/results/<device>/ (half an hour on two CPU cores)
	@for name in roofline train_step act evaluation scaling compile end_to_end; do $(RUN_PYTHON) -m benchmarks.$$name $(ARGS) || exit $$?; done

test: $(READY)  ## Lint, parity with the reference programs, and the fast tests (minutes)
	@$(RUN_PYTHON) -m ruff check .
	@$(RUN_PYTHON) -m pytest -q -n auto --maxprocesses 4 --dist loadfile -m "not slow and not soak" $(ARGS)

test-slow: $(READY)  ## The learning tests and whole runs (tens of minutes)
	@$(RUN_PYTHON) -m pytest -q -m slow $(ARGS)

soak: $(READY)  ## Tests that try to break runs, with a table in OUT (long)
	@$(RUN_PYTHON) -m tests.robustness.soak $(call quote,$(or $(OUT),results/soak.md)) $(ARGS)

check: lint types test  ## Style, types and fast tests: what a change must pass

# further dependencies of the checks: pyright (with its own node), mkdocs, pre-commit
$(CHECKS): requirements-checks.lock | $(READY)
	@$(call install,-r requirements-checks.lock)
	@touch $(CHECKS)

docs: $(CHECKS)  ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(RUN_PYTHON) -m mkdocs build --quiet --strict --site-dir site && echo "documentation: site/index.html"

types: $(CHECKS)  ## Check types with pyright, at the level basic
	@$(RUN_PYTHON) -m pyright --pythonpath $(RUN_PYTHON)

lint: $(READY)  ## Check style only
	@$(RUN_PYTHON) -m ruff check . && $(RUN_PYTHON) -m ruff format --check .

hooks: $(CHECKS)  ## Run lint and types at every commit (pre-commit, nothing fetched)
	@$(RUN_PYTHON) -m pre_commit install

lock: $(READY)  ## Resolve both lock files anew (needs uv in the environment)
	@printf 'mujoco==3.2.7\njax<0.12\n' | $(RUN_PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --no-annotate --custom-compile-command 'make lock' --extra dev --constraint - setup.cfg --output-file requirements.lock
	@printf 'pyright[nodejs]>=1.1.400\nmkdocs>=1.6,<2\nmkdocs-material>=9.5\nmkdocstrings[python]>=0.26\npre-commit>=4\n' | $(RUN_PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --no-annotate --custom-compile-command 'make lock' --constraint requirements.lock - --output-file requirements-checks.lock

clean:  ## Remove the Python environment (runs and datasets stay)
	@rm -rf $(VENV)
