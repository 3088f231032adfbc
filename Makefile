# Prism DR. Needs only: git make python3 python3-venv (Debian 12). `make help` lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
DATA ?= var
SITES ?= $(if $(LISTEN),1,2)
LISTEN ?=
NAME ?=
SITE ?= 1
PYTEST_ARGS ?=
BENCH_ARGS ?=
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
FUZZ_VENV := $(VENV)/api-fuzz
FUZZ_STAMP := $(VENV)/.installed-api-fuzz
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
PIP_COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.PHONY: help up down status doctor support-bundle reset password venv venv-dev test lint bench sim crash crash-mutants storm stun fuzz corrupt conformance api-fuzz demo-data browser pictures fresh lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

up: venv ## start two paired sites on 127.0.0.1 and 127.0.0.2 (or SITES=1, LISTEN=address); Ctrl-C stops them
	@exec $(MANAGE) up --root "$(DATA)" --sites $(SITES) $(if $(LISTEN),--listen "$(LISTEN)") $(if $(NAME),--name "$(NAME)")

down: venv ## stop what `make up` started, from another terminal
	@exec $(MANAGE) down --root "$(DATA)"

status: venv ## show processes, ports and health of the sites
	@exec $(MANAGE) status --root "$(DATA)"

reset: venv ## delete the sites with all their data (asks; YES=1 does not)
	@exec $(MANAGE) reset --root "$(DATA)" $(if $(YES),--yes)

doctor: venv ## say what is wrong with the sites of this machine, and how to mend it
	@exec $(MANAGE) doctor --root "$(DATA)"

support-bundle: venv ## write logs, versions and states into one file for support, without secrets
	@exec $(MANAGE) support_bundle --root "$(DATA)"

password: venv ## give the user admin of a running site a new password (SITE=1)
	@PRISM_DATA="$(DATA)/site$(SITE)" exec $(MANAGE) password

venv: $(RUN_STAMP) $(BIN)/prism ## make the virtualenv with the locked dependencies

venv-dev: $(DEV_STAMP) ## the same with what tests and lint need

$(BIN)/python:
	@$(PYTHON) .ci/python-ok
	@echo "Making the virtualenv $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "The virtualenv could not be made. Install the module: apt-get install python3-venv"; exit 1; }

$(RUN_STAMP): requirements.txt | $(BIN)/python
	@echo "Installing the locked dependencies (a minute or two, once)"
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

# -P: what lies in the folder where it is called is not imported.
$(BIN)/prism: | $(RUN_STAMP)
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s/python" -P -m prism.cli "$$@"\n' "$(CURDIR)" "$(abspath $(BIN))" > $@.new
	@chmod 755 $@.new && mv $@.new $@

$(DEV_STAMP): requirements-dev.txt $(RUN_STAMP)
	@echo "Installing what tests and lint need"
	@$(PIP_INSTALL) -r requirements.txt -r requirements-dev.txt
	@touch $@

# Of its own: what schemathesis brings along differs from what the tests are locked to.
$(FUZZ_STAMP): requirements-api-fuzz.txt | $(BIN)/python
	@echo "Installing schemathesis"
	@$(BIN)/python -m venv $(FUZZ_VENV)
	@$(FUZZ_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-api-fuzz.txt
	@touch $@

test: venv-dev ## run all tests; as root it first installs the Debian packages they drive
	@.ci/system-packages
	@exec $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

lint: venv-dev ## ruff, mypy, import contracts, missing migrations, house style
	$(BIN)/ruff check .
	$(BIN)/python .ci/house-style
	$(BIN)/mypy stargate prism replication dataprotection $$(git ls-files 'tests/*states.py')
	$(BIN)/lint-imports
	$(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run -v 1

bench: venv-dev ## measure Stargate beside qemu-nbd and nbdkit; BENCH_ARGS="--quick" for a short run
	@exec $(BIN)/python -m bench.run $(BENCH_ARGS)

storm: venv-dev ## kill -9 of the engine's processes under verified load: KILLS=300 [SEED=n]
	@exec $(BIN)/python -m tests.storm --kills $(or $(KILLS),300) $(if $(SEED),--seed $(SEED))

stun: venv-dev ## guest writes beside snapshots of 32 disks against a quiet run: SNAPSHOTS=100
	@exec $(BIN)/python -m tests.storm.stun --snapshots $(or $(SNAPSHOTS),100) $(if $(SEED),--seed $(SEED))

fuzz: venv-dev ## hostile messages on the NBD and the peer port of a real engine (MESSAGES=200000 SEED=n)
	@exec $(BIN)/python -m tests.fuzz $(if $(MESSAGES),--messages $(MESSAGES)) $(if $(SEED),--seed $(SEED))

conformance: venv-dev ## NBD with foreign clients, TLS, and a QEMU guest that lives through kills of the engine (ROWS=N1,guest COUNT=n SEED=n)
	@.ci/system-packages qemu-system-x86
	@exec $(BIN)/python -m tests.conformance --count $(or $(COUNT),1) $(if $(SEED),--seed $(SEED)) $(if $(ROWS),--rows "$(ROWS)")

api-fuzz: venv-dev $(FUZZ_STAMP) ## generated requests at every address of the JSON API of a real site: EXAMPLES=50 [SEED=n]
	@exec $(BIN)/python -m tests.api_fuzz --tool $(FUZZ_VENV)/bin/schemathesis --examples $(or $(EXAMPLES),50) $(if $(SEED),--seed $(SEED))

crash: venv-dev ## power cuts before every disk call of random histories, every call failing once: STATES=20000 [SEED=n]
	@exec $(BIN)/python -m tests.crash --states $(or $(STATES),20000) $(if $(SEED),--seed $(SEED))

crash-mutants: venv-dev ## break rules of the engine on purpose; each must be caught [SEED=n]
	@exec $(BIN)/python -m tests.crash.mutants $(if $(SEED),--seed $(SEED))

corrupt: venv-dev ## damage stored bytes of either of two sites: found, healed or refused (CASES=2000 SEED=n)
	@exec $(BIN)/python -m tests.corrupt --cases $(or $(CASES),2000) $(if $(SEED),--seed $(SEED))

sim: venv-dev ## two simulated sites under power cuts, bad disks and bad links: SEEDS=2000, or SEED=n to replay one
	@exec $(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),2000))

demo-data: venv-dev ## a site with 100,000 snapshots and a million audit rows: how fast its pages are (KEEP=1 leaves it running)
	@exec $(BIN)/python -m bench.pages $(if $(KEEP),--keep)

browser: venv-dev ## the console's journeys in Debian's Chromium, by mouse, by keyboard and without JavaScript, on real sites
	@.ci/system-packages
	@PRISM_LONG_TESTS=1 exec $(BIN)/python -m pytest tests/browser $(PYTEST_ARGS)

pictures: venv-dev ## take a picture of every page and dialog, light and dark, wide and narrow (OUT=folder)
	@exec $(BIN)/python -m tests.browser.pictures $(if $(OUT),--out "$(OUT)") $(if $(DOCS),--docs "$(DOCS)")

fresh: ## prove `make up` and `make test` in a new Debian 12 chroot, as root and as an ordinary user (needs root)
	@exec .ci/fresh

lock: venv-dev ## renew the hashed locks from requirements.in and requirements-dev.in
	$(PIP_COMPILE) --upgrade -o requirements.txt requirements.in
	$(PIP_COMPILE) --upgrade -o requirements-dev.txt requirements-dev.in
	$(PIP_COMPILE) --upgrade -o requirements-api-fuzz.txt requirements-api-fuzz.in

clean: ## delete the virtualenv and caches, never the sites' data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
