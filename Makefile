# make help lists the targets: each has its line behind ##.
.DEFAULT_GOAL := setup
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Some environments forbid byte code; without it every stage compiles TensorFlow anew, six seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup repro gtzan folder experiments preset registry up down status password worker mlflow test test-long test-gpu lint bench lock clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "Labels: cmg labels --help. More: README.md"

setup: .venv/.ready  ## make .venv with all that is needed

.venv/.ready: pyproject.toml requirements.lock requirements-setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.txt
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

data/dataset.json: | .venv/.ready
	$(BIN)/python -m pipeline.sources.sample

repro: setup data/dataset.json  ## run the whole pipeline; makes the sample library if there is no data
	@$(BIN)/python -m pipeline.repair
	@$(BIN)/python -m pipeline.labelling.hand_edits
	$(BIN)/dvc repro
	@echo "report: artifacts/report/index.html · data checks: data_docs/index.html · models: make mlflow"

# Names of files from the environment, as make puts them there: no quote or dollar in them is the shell's.
LABEL_OPTIONS = $(if $(LABELS),--labels "$$LABELS") $(if $(ANNOTATOR),--annotator "$$ANNOTATOR")
MAP_OPTION = $(if $(MAP),--map "$$MAP")
gtzan: setup  ## swap the real GTZAN in: [ARCHIVE=genres.tar.gz or FOLDER] [LABELS=FILE]; without: download it
	$(BIN)/python -m pipeline.sources.gtzan $(if $(ARCHIVE),"$$ARCHIVE") $(LABEL_OPTIONS)
	$(BIN)/python -m pipeline.presets gtzan
	$(BIN)/python -m pipeline.sources.tasks

folder: setup  ## swap your own music in: SRC=FOLDER [LABELS=FILE [ANNOTATOR=NAME]] [ARTISTS=CSV] [GENRE=folder|tags]
	@test -n "$${SRC:-}" || { echo "error: expected make folder SRC=FOLDER [LABELS=FILE] [ARTISTS=CSV] [GENRE=folder|tags]" >&2; exit 2; }
	$(BIN)/python -m pipeline.sources.folder "$$SRC" $(LABEL_OPTIONS) $(MAP_OPTION) $(if $(ARTISTS),--artists "$$ARTISTS") $(if $(GENRE),--genre "$$GENRE")

# The columns that a reader wants: scores, and the parameters that differ. `dvc exp show` alone has every dependency too.
experiments: setup  ## scores and changed parameters of all experiments, side by side
	@$(BIN)/dvc exp show --no-pager --only-changed --keep '(genre|mood)-' --drop 'artifacts|data|pipeline|requirements|serving|results|taxonomy|Created'

preset: setup  ## write the settings NAME=sample, library, gtzan or report into params.yaml
	$(BIN)/python -m pipeline.presets $(NAME)

# `dvc repro` fills a registry whose mlruns/ is new; this one also a shared server's that is empty.
registry: setup  ## register and promote what is trained, in a registry that is new
	$(BIN)/python -m pipeline.stages.register
	$(BIN)/python -m pipeline.stages.promote

# Prefect server and UI, scheduled and on-demand retrains, MLflow, report and Data Docs; Ctrl-C stops all of it.
# make up DETACH=1 runs them in the background until make down.
up: setup  ## start Prefect, MLflow and the report; DETACH=1: in the background, until make down
	@exec $(BIN)/python -m flows.services up $(if $(DETACH),--detach)

down: setup  ## stop what make up started
status: setup  ## what runs, and at which addresses
down status:
	@$(BIN)/python -m flows.services $@

# On another machine of a team: run what the Prefect server at PREFECT_API_URL hands out (docs/team.md).
worker: setup  ## run what the Prefect server at PREFECT_API_URL hands out
	@exec $(BIN)/python -m flows.worker

mlflow: setup  ## start MLflow alone
	@exec $(BIN)/python -m flows.services mlflow

# What the servers ask for: user:password.
password: setup  ## print the user and password that the servers ask for
	@$(BIN)/python -m serving.password

# Three at a time, since the slow ones wait a good deal for servers; a file's tests together, in the order of
# collection: tests/conftest.py puts the slow ones first.
test: setup  ## run the tests: [TESTS=tests/training]
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not long" $(TESTS)

test-long: setup  ## more of the flows' faults, and their tests once more, on PostgreSQL
	$(BIN)/python -m pytest -m long

test-gpu: setup  ## the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

lint: setup  ## ruff, mypy, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## speed against librosa, bare Keras and TensorFlow
	$(BIN)/python -m benchmarks.bench

lock: setup  ## pin the versions anew after a change of pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra team --extra m4a --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" --quiet -o requirements.lock

# Everything that can be made again; data/ and DVC's cache stay.
clean:  ## remove everything that can be made again; data/ and DVC's cache stay
	rm -rf .venv artifacts .cache data_docs dvc_plots .pytest_cache .mypy_cache .ruff_cache
