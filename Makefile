# `make run` and `make test` need Python ≥ 3.11 with venv, and nothing else: they make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run demo test chaos lint audit format bench bench-all bench-engine lock docs clean

run: .venv/run
	@exec $(BIN)/thumbs up

demo: .venv/run
	@$(BIN)/thumbs demo

# Two files at once where there are two cores, in their order: the long ones (chaos, e2e) come first. Each process has its own stores.
test: .venv/dev
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# What tests/chaos proves in two minutes, for longer: `make chaos JOBS=10000`, 12 a second.
JOBS ?= 10000
chaos: .venv/dev
	@$(BIN)/python -m tests.chaos --jobs $(JOBS)

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Known vulnerabilities of what is deployed, and suspicious code of ours. Needs the internet: --strict takes no skipped look-up for a pass.
audit: .venv/audit
	$(BIN)/bandit --configfile pyproject.toml --quiet --recursive --severity-level medium --confidence-level medium thumbs tasks.py wsgi.py
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt

format: .venv/dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The pipeline alone takes three minutes, all of them half an hour. `make bench PEERS=DIR` has RQ and Celery beside us.
bench: .venv/dev
	$(BIN)/python -m bench.pipeline $(addprefix --peers ,$(PEERS))

bench-all: bench bench-engine
	$(BIN)/python -m bench.backlog
	$(BIN)/python -m bench.nodes
	$(BIN)/python -m bench.courier
	$(BIN)/python -m bench.safety

# `make bench-engine PEERS=DIR` compares with libvips and sharp too; docs/benchmarks.md says how to install them there.
bench-engine: .venv/dev
	$(BIN)/python -m bench.engine $(addprefix --peers ,$(PEERS))
	$(BIN)/python -m bench.early_stop
	$(BIN)/python -m bench.fidelity $(addprefix --peers ,$(PEERS))

# The pages that are made from the code; a test compares them.
docs: .venv/dev
	$(BIN)/thumbs settings --markdown > docs/settings.md

# The resolved lock that is deployed, with hashes.
lock: .venv/dev
	$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.txt setup.cfg

clean:
	rm -rf .venv build *.egg-info

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "thumbs needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python setup.cfg requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.venv/audit: .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[audit]'
	@touch $@
