# make repro   set up, make the sample library if there is no data, run the whole pipeline
# make test    set up and run the tests          make lint   ruff, mypy, who may import whom
# make test-long   more of the flows' faults, and their tests once more, on PostgreSQL
# make gtzan [ARCHIVE=genres.tar.gz | ARCHIVE=FOLDER]   swap the real GTZAN in (nothing: download it)
# make folder SRC=FOLDER [LABELS=moods.csv]             swap in any library <genre>/<file>
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Some environments forbid byte code; without it every stage compiles TensorFlow anew, six seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup repro gtzan folder experiments preset registry up down status password worker mlflow test test-long test-gpu lint bench lock clean

setup: .venv/.ready

.venv/.ready: pyproject.toml requirements.lock requirements-setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.txt
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

data/dataset.json: | .venv/.ready
	$(BIN)/python -m pipeline.sources.sample

repro: setup data/dataset.json
	@$(BIN)/python -m pipeline.repair
	$(BIN)/dvc repro
	@echo "report: artifacts/report/index.html · data checks: data_docs/index.html · models: make mlflow"

gtzan: setup
	$(BIN)/python -m pipeline.sources.gtzan $(ARCHIVE)
	$(BIN)/python -m pipeline.presets gtzan
	@echo "now: dvc repro (or make repro)"

folder: setup
	@test -n "$(SRC)" || { echo "error: expected make folder SRC=FOLDER [LABELS=moods.csv]" >&2; exit 2; }
	$(BIN)/python -m pipeline.sources.folder "$(SRC)" $(if $(LABELS),--labels "$(LABELS)")

# The columns that a reader wants: scores, and the parameters that differ. `dvc exp show` alone has every dependency too.
experiments: setup
	@$(BIN)/dvc exp show --no-pager --only-changed --keep '(genre|mood)-' --drop 'artifacts|data|pipeline|requirements|serving|results|Created'

preset: setup
	$(BIN)/python -m pipeline.presets $(NAME)

# `dvc repro` fills a registry whose mlruns/ is new; this one also a shared server's that is empty.
registry: setup
	$(BIN)/python -m pipeline.stages.register
	$(BIN)/python -m pipeline.stages.promote

# Prefect server and UI, scheduled and on-demand retrains, MLflow, report and Data Docs; Ctrl-C stops all of it.
# make up DETACH=1 runs them in the background until make down.
up: setup
	@exec $(BIN)/python -m flows.services up $(if $(DETACH),--detach)

down status: setup
	@$(BIN)/python -m flows.services $@

# On another machine of a team: run what the Prefect server at PREFECT_API_URL hands out (docs/team.md).
worker: setup
	@exec $(BIN)/python -m flows.worker

mlflow: setup
	@exec $(BIN)/python -m flows.services mlflow

# What the servers ask for: user:password.
password: setup
	@$(BIN)/python -m serving.password

# Two at a time, a file's tests together, in the order of collection: tests/conftest.py puts the slow ones first.
test: setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not long" $(TESTS)

test-long: setup
	$(BIN)/python -m pytest -m long

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks.bench

lock: setup
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra team --extra m4a --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --custom-compile-command "make lock" --quiet -o requirements.lock

# Everything that can be made again; data/ and DVC's cache stay.
clean:
	rm -rf .venv artifacts .cache data_docs dvc_plots .pytest_cache .mypy_cache .ruff_cache
