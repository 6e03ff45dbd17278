# Everything a contributor does; `make` alone prints the verbs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Where this is set, each process compiles every file that it imports again.
export PYTHONDONTWRITEBYTECODE :=

UV := $(or $(shell uv --version >/dev/null 2>&1 && command -v uv),.uv/bin/uv)
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo -n)
# A distribution's Python is built with profile-guided optimisation, which is worth a seventh of the time of a stage.
PYTHON := $(shell /usr/bin/python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo /usr/bin/python3)
VENV = $(UV) venv --quiet $(addprefix --python ,$(PYTHON))
ENV_RUN := .venv/.run
ENV_TEST := .venv/.test
# The receivers have an environment of their own, as they would at a customer's.
ENV_EXAMPLES := .venv-examples/.run
ENV_AUDIT := .venv-audit/.run
ENV_MUTANTS := .venv-mutants/.run
ENV_RELEASE := .venv-release/.run
# The documentation's pages, which `api` serves and the wheel has, and what they are made of.
SITE := api/site/index.html.gz
SITE_SOURCES := $(wildcard *.md docs/*.md docs/*.py docs/*/*.md bench/*.md schemas/*.md schemas/*.avsc examples/*/*.md tools/docs_*.py \
  api/*.py api/*/models.py api/*/routes.py api/events/schemas.py streams/cli/*.py client/scorm_webhooks_cli/*.py streams/core/errors.py streams/core/events/event_data.py \
  streams/topics.py streams/adapters/http_server/refusals.py)
CERTIFICATE_FONT := /usr/share/fonts/truetype/freefont/FreeSerif.ttf
# Tests often wait: six files at a time, each process with its own brokers and databases. `WORKERS=0` takes one.
WORKERS := 6
TOGETHER = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# tests/nightly.py says which tests are played when.
OF_PYTEST := not chaos and not kube and not release
BY_DAY := $(OF_PYTEST) and not night
FIRST := $(BY_DAY) and not landing
FAST := not real and not e2e and not slow and not night
# Where the minutes of a run go.
SLOWEST = --durations=40 --durations-min=5

# A Docker engine that answers, or buildah.
BUILD_IMAGE ?= $(shell if docker info >/dev/null 2>&1; then echo docker build; elif command -v buildah >/dev/null; then echo buildah bud; fi)
IMAGE := scorm-webhooks
# Where tests/parts.py looks for them, too.
KUBE_BINARIES := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/scorm-webhooks/kube/bin
# As streams/build.py says it.
BUILD := $(addprefix +g,$(shell git rev-parse --short=9 HEAD 2>/dev/null))
VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)

.PHONY: help demo examples setup docs test parts broker wheel compiled producer client client-file quick check chart alerts kube kube-binaries pythons nightly night-tests night-chaos flaky chaos soak upgrade-drill bench audit mutants screenshots image release release-check release-test release-programs release-login build-project lint format generated migration lines lock

help:
	@echo "make demo     a whole system on this machine, to look at; ARGS=... are passed on"
	@echo "make examples the demo with five receivers of examples/ as its customers; ARGS=... are passed on to the demo"
	@echo "make setup    an environment in .venv with all a developer needs"
	@echo "make docs     the documentation as a site in .docs/site, built strictly: a bad link is an error; make setup builds it too"
	@echo "make quick    lint, types, and the fast tests of what has changed since the last commit"
	@echo "make check    the fast tests, lint and types: before every commit"
	@echo "make test     the fast tests, and the main ones on a real Kafka, PostgreSQL and browser; with CI=true all that a landing plays"
	@echo "make chart    the tests of the Helm chart; CI runs them too"
	@echo "make kube     the Helm chart on a real Kubernetes of one node: install, upgrade, scale, kill and drain under load; needs root"
	@echo "make kube-binaries   build that Kubernetes from Go modules, once: half an hour"
	@echo "make alerts   the tests of the alerts, their pages and the Grafana dashboard; CI runs them too"
	@echo "make nightly  every test, every Python, all of chaos, Kubernetes, a release, an upgrade; and a line in tests/NIGHTS.md"
	@echo "make flaky    the whole run six times, three of them beside busy loops; it goes on after a stop"
	@echo "make pythons  the fast tests on the image's Python, the next Debian's, and every one of PATH and pyenv"
	@echo "make chaos    kill, stop and mislead every part under load, for twenty minutes, and count what that costs"
	@echo "make soak     a steady load for a hundred minutes, with kills; memory and open files must not grow"
	@echo "make upgrade-drill   from the newest release to this checkout and on to a made-up one, stage by stage, under load, and back; FROM=commit begins there"
	@echo "make bench    measure throughput, latency and cost on this machine: three quarters of an hour, on an idle machine"
	@echo "make audit    look for advisories about every locked package, at osv.dev"
	@echo "make mutants  mutate the code, and count what the fast tests notice; ARGS=\"core --sample 200\" takes a part and a sample"
	@echo "make screenshots   the pictures of the dashboard in docs/images; ARGS=\"--all FOLDER\" takes one of every page"
	@echo "make producer the wheel of scorm-webhooks-producer in dist/; make wheel writes it too"
	@echo "make client   the wheel of scorm-webhooks-cli in dist/, and all of it as one file; make wheel writes them too"
	@echo "make image    the image of every stage, by Docker or buildah; SOURCE=... is the label of where it comes from"
	@echo "make release  wheels, images, chart, SBOMs and provenance of this commit in dist/<version>, signed by KEY=...; PUSH=registry/namespace pushes them"
	@echo "make release-programs   bring what it needs: buildah, skopeo, helm, and cosign, which takes minutes to build"
	@echo "make release-login   sign in to the registry of PUSH=..., with REGISTRY_USER and REGISTRY_PASSWORD"
	@echo "make release-check   build all of that twice, and say which bytes differ"
	@echo "make release-test    a release with a throw-away key, and one without, pushed to a registry on this machine, verified by other programs, and run"
	@echo "make lint     format, lint, types and the direction of imports"
	@echo "make format   write the code as lint wants it"
	@echo "make generated   the settings of the chart, the Grafana dashboard and the types of examples/helpers, from the code"
	@echo "make migration   the next migration, from what differs; ARGS=\"say what it adds\""
	@echo "make lines    lines of Python, of the product and of all else, without migrations"
	@echo "make lock     requirements/*.txt anew from pyproject.toml"

demo: $(ENV_RUN)
	.venv/bin/scorm-webhooks demo $(ARGS)

examples: $(ENV_RUN) $(ENV_EXAMPLES) $(CERTIFICATE_FONT)
	.venv-examples/bin/python examples/run.py $(ARGS)

setup: $(ENV_TEST) $(SITE)

docs: $(ENV_TEST)
	.venv/bin/python tools/docs_site.py --fresh

$(SITE): $(SITE_SOURCES) | $(ENV_TEST)
	.venv/bin/python tools/docs_site.py
	@touch $@

quick: lint
	.venv/bin/python tools/quick.py $(ARGS)

check: lint
	.venv/bin/pytest -q $(TOGETHER) -m "$(FAST)"

# What tests need is brought and built while lint runs.
ifeq ($(CI),true)
test:
	@$(MAKE) -j3 --output-sync=line broker lint compiled
	PYTHONSAFEPATH=1 .venv-wheel/bin/pytest -rs -m "$(BY_DAY)" $(TOGETHER) $(SLOWEST) $(ARGS)
# Chaos wants the machine for itself.
	PYTHONSAFEPATH=1 .venv-wheel/bin/pytest -rs -m "chaos and not night" $(OF_CHAOS)
else
test:
	@$(MAKE) -j3 --output-sync=line broker lint setup
	.venv/bin/pytest -rs -m "$(FIRST)" $(TOGETHER) $(ARGS)
endif
OF_CHAOS := -o faulthandler_timeout=1800 tests/chaos

# Without CI a test whose part is missing is skipped, and named.
PARTS = $(if $(filter true,$(CI)),--by-day,Java Kafka PostgreSQL PgBouncer Node "verifiers for Node" Chromium axe-core)
night-chaos: PARTS =
parts: | $(UV)
	@python3 tests/parts.py $(PARTS)

# Its classes are archived once, so that each test's broker starts in a second.
broker: parts $(ENV_TEST)
	@PYTHONPATH=tests .venv/bin/python -m real.kafka

# What is published is what is tested: the wheel, and never the checkout (hence the safe path).
wheel: docs
	rm -rf dist/*.whl dist/docs dist/green && $(UV) build --quiet --wheel
	cp -R .docs/site dist/docs
	@$(MAKE) producer client
	$(VENV) --clear .venv-wheel
	$(UV) pip sync --quiet --python .venv-wheel requirements/test.txt
	$(UV) pip install --quiet --python .venv-wheel --no-deps dist/scorm_webhooks-*.whl

# Else each of the processes that share the tests compiles every file for itself. The run after it shows errors.
compiled: wheel
	@PYTHONSAFEPATH=1 .venv-wheel/bin/pytest --collect-only -qq >/dev/null || true

producer: | $(UV)
	$(UV) build --quiet --wheel producer --out-dir dist

client: | $(UV)
	rm -f dist/scorm_webhooks_cli-*.whl
	$(UV) build --quiet --wheel client --out-dir dist
	@$(MAKE) client-file CLIENT_WHEEL=$$(ls dist/scorm_webhooks_cli-*.whl)

build-project: | $(UV)
	$(UV) build --quiet --sdist --wheel $(PROJECT) --out-dir $(OUT) $(ARGS)

# One file with all that the commands need but Python. Programs and lists of files would name this folder.
CLIENT_FILE = dist/scorm-webhooks
client-file: $(ENV_TEST)
	folder=$$(mktemp -d) && trap 'rm -rf '$$folder EXIT && \
	  $(UV) pip install --quiet --target $$folder -c requirements/run.txt -r client/pyproject.toml && \
	  python3 -m zipfile --extract $(CLIENT_WHEEL) $$folder && \
	  rm -rf $$folder/bin $$folder/*.dist-info/RECORD && \
	  .venv/bin/shiv --reproducible --compressed --site-packages $$folder --python '/usr/bin/env python3' \
	  --entry-point scorm_webhooks_cli.__main__:main --output-file $(CLIENT_FILE)

# Every part, also after one has failed; ARGS names parts. It ends with a line in tests/NIGHTS.md.
nightly: | $(UV)
	@python3 tests/nights.py $(ARGS)

# In two parts, each with a result of its own: `TESTS=night`, and `TESTS="not night"` with more examples than by day.
night-tests:
	@$(MAKE) -j3 --output-sync=line broker lint compiled PARTS=
	PYTHONSAFEPATH=1 .venv-wheel/bin/pytest -v -rs --hypothesis-profile=thorough -m "$(OF_PYTEST) and $(TESTS)" $(TOGETHER) $(SLOWEST)

night-chaos: broker wheel
	PYTHONSAFEPATH=1 .venv-wheel/bin/pytest -rs -m chaos $(OF_CHAOS)

flaky: setup
	@python3 tests/flaky.py $(ARGS)

chart: setup
	@python3 tests/parts.py "helm and kubectl" "custom resource definitions"
	.venv/bin/pytest -q tests/chart $(ARGS)

kube: setup
	@UPGRADE_FROM=$(FROM) PYTHONPATH=tests:tools .venv/bin/python -m kube $(ARGS)

kube-binaries:
	@tests/kube/build.sh $(KUBE_BINARIES)

alerts: setup
	@python3 tests/parts.py promtool
	.venv/bin/pytest -q tests/alerts $(ARGS)

pythons: setup
	@python3 tests/parts.py "base of the image" "Debian with the next Python"
	python3 tests/pythons.py $(UV) $(TOGETHER) $(ARGS)

chaos: setup
	@python3 tests/parts.py
	PYTHONPATH=tests:tools .venv/bin/python -m chaos $(ARGS)

upgrade-drill: setup
	@python3 tests/parts.py
	UPGRADE_FROM=$(FROM) PYTHONPATH=tests:tools .venv/bin/python -m chaos.drill $(ARGS)

soak: setup
	@python3 tests/parts.py
	PYTHONPATH=tests:tools .venv/bin/python -m chaos.soak $(ARGS)

bench: setup
	@python3 tests/parts.py
	PYTHONPATH=tests:. .venv/bin/python -m bench $(or $(ARGS),all)

audit: $(ENV_AUDIT)
	@python3 tests/audit.py .venv-audit/bin/pip-audit $(ARGS)

mutants: $(ENV_MUTANTS)
	@python3 tests/mutants.py .venv-mutants/bin/mutmut $(ARGS)

screenshots: setup
	@python3 tests/parts.py
	PYTHONPATH=tests .venv/bin/python -m browser.screenshots $(ARGS)

# `localhost/…` and digests are fixed; PUSH is registry/namespace. The first base is of amd64.
RELEASE_PATH = $(dir $(KUBE_BINARIES:/kube/bin=/cosign/cosign)):$(CURDIR)/.parts/kube/bin:$(PATH)
RELEASE = PATH="$(RELEASE_PATH)" PYTHONPATH=tools .venv/bin/python -m release --base "$(BASE)" --base-arm64 "$(BASE_ARM64)" --debsbom .venv-release/bin/debsbom \
  $(addprefix --source-url ,$(SOURCE))
release: setup $(ENV_RELEASE)
	@$(RELEASE) --key "$(KEY)" $(addprefix --sigstore ,$(SIGSTORE)) $(addprefix --push ,$(PUSH)) $(ARGS)

# The first minutes bring cosign and a Debian of arm64, once.
RELEASE_PARTS = "Debian with the next Python" "buildah" "skopeo" "base of the image" "base of the image for arm64" "emulator of arm64" "registry of images" cosign Fulcio "helm and kubectl"
release-test: setup $(ENV_RELEASE)
	@python3 tests/parts.py $(RELEASE_PARTS)
	.venv/bin/pytest -rs -m release -o faulthandler_timeout=1800 tests/publication $(ARGS)

release-programs:
	@python3 tests/parts.py buildah skopeo cosign "helm and kubectl"

# Where cosign and skopeo both look.
release-login:
	@mkdir -p "$$HOME/.docker"
	@printenv REGISTRY_PASSWORD | skopeo login --authfile "$$HOME/.docker/config.json" --username "$$REGISTRY_USER" --password-stdin $(firstword $(subst /, ,$(PUSH)))

release-check: setup $(ENV_RELEASE)
	@$(RELEASE) --twice $(ARGS)

image:
	@if [ -e $(ENV_TEST) ]; then $(MAKE) $(SITE); elif [ ! -e $(SITE) ]; then echo "This image has no documentation at /docs/: run make setup before, and it has"; fi
	$(or $(BUILD_IMAGE),$(error Docker or buildah is missing; install one (apt-get install buildah) and run make again)) \
	  --file deploy/Dockerfile --tag $(IMAGE) --build-arg VERSION=$(VERSION)$(BUILD) --build-arg SOURCE=$(or $(SOURCE),unknown) \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null) $(ARGS) .

lint: $(ENV_TEST)
	.venv/bin/ruff format --check --quiet
	.venv/bin/ruff check --quiet
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

format: $(ENV_TEST)
	.venv/bin/ruff check --quiet --fix-only
	.venv/bin/ruff format

# --no-header: the header would repeat options, and with them perhaps the host of a private index.
LOCK = $(UV) pip compile --quiet --universal --generate-hashes --no-header --no-annotate
lock: | $(UV)
	$(LOCK) pyproject.toml --extra demo --extra msk --extra registry --extra tracing -o requirements/run.txt $(ARGS)
	$(LOCK) pyproject.toml --extra demo --extra msk --extra registry --extra tracing --group test -c requirements/run.txt -o requirements/test.txt $(ARGS)
	$(LOCK) --group build -c requirements/test.txt -o requirements/build.txt $(ARGS)
	$(LOCK) --group release -c requirements/build.txt -o requirements/release.txt $(ARGS)
	$(LOCK) --group audit -o requirements/audit.txt $(ARGS)
	$(LOCK) pyproject.toml --extra demo --extra msk --extra registry --extra tracing --group mutants -c requirements/run.txt -o requirements/mutants.txt $(ARGS)
	$(LOCK) examples/receivers/requirements.in --python-version 3.11 -c requirements/test.txt -o examples/receivers/requirements.txt $(ARGS)

.venv/bin/python: | $(UV)
	$(VENV) --allow-existing .venv

# `install`, not `sync`: a developer who looks at the demo keeps the tools.
$(ENV_RUN): requirements/run.txt pyproject.toml | .venv/bin/python
	$(UV) pip install --quiet --python .venv --require-hashes -r requirements/run.txt
	$(UV) pip install --quiet --python .venv --no-deps -e .
	@touch $@

$(ENV_TEST): requirements/test.txt pyproject.toml | .venv/bin/python
	$(UV) pip sync --quiet --python .venv requirements/test.txt
	$(UV) pip install --quiet --python .venv --no-deps -e .
	@touch $(ENV_RUN) $@

$(ENV_EXAMPLES): examples/receivers/requirements.txt | $(UV)
	$(VENV) --allow-existing .venv-examples
	$(UV) pip sync --quiet --python .venv-examples --require-hashes $<
	@touch $@

$(ENV_AUDIT): requirements/audit.txt | $(UV)
	$(VENV) --allow-existing .venv-audit
	$(UV) pip sync --quiet --python .venv-audit --require-hashes $<
	@touch $@

$(ENV_MUTANTS): requirements/mutants.txt pyproject.toml | $(UV)
	$(VENV) --allow-existing .venv-mutants
	$(UV) pip sync --quiet --python .venv-mutants --require-hashes $<
	$(UV) pip install --quiet --python .venv-mutants --no-deps -e .
	@touch $@

$(ENV_RELEASE): requirements/release.txt | $(UV)
	$(VENV) --allow-existing .venv-release
	$(UV) pip sync --quiet --python .venv-release --require-hashes $<
	@touch $@

$(CERTIFICATE_FONT):
	@{ $(SUDO) apt-get -qq update && $(SUDO) apt-get -qq install -y --no-install-recommends fonts-freefont-ttf >/dev/null; } \
	  || { echo "A font for the certificates is missing; install it (apt-get install fonts-freefont-ttf) and run make again"; exit 1; }

# Debian and Ubuntu refuse `pip install` outside of an environment, so uv gets a small one of its own.
.uv/bin/uv:
	@python3 -c 'import ensurepip, venv' 2>/dev/null \
	  || { $(SUDO) apt-get -qq update && $(SUDO) apt-get -qq install -y python3-venv >/dev/null; } \
	  || { echo "Python's venv is missing; install it (apt-get install python3-venv) and run make again"; exit 1; }
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv

generated: setup
	.venv/bin/python tools/chart_files.py
	.venv/bin/python tools/grafana_dashboard.py
	.venv/bin/python tools/receiver_types.py

migration: setup
	.venv/bin/python tools/migration.py $(ARGS)

lines:
	@git ls-files 'streams/*.py' 'api/*.py' 'schemas/*.py' 'client/*.py' | grep -v migrations/versions | xargs cat | wc -l | sed 's/$$/ of the product/'
	@git ls-files '*.py' | grep -vE '^(streams|api|schemas|client)/' | xargs cat | wc -l | sed 's/$$/ of tests, tools, bench and examples/'
