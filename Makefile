# kpo_async: `make help` lists everything. Needs python3 (3.10+) and make; the rest is installed into .venv.

# make test PYTHON=3.12 AIRFLOW=3.1.8     another interpreter, another Airflow; each pair has its own venv
PYTHON  ?=
AIRFLOW ?=
# make demo PODS=50 POD_SECONDS=10 FAULTS=1; KUBECONFIG=... runs it on that cluster instead of the embedded one
# make demo MODE=all: workerless, end_from_trigger and deferrable side by side; KEEP=1 leaves Airflow up until Ctrl-C
PODS        ?= 200
POD_SECONDS ?= 30
MODE        ?= workerless
KEEP        ?=
FAULTS      ?=
PYTEST_ARGS ?=
MINUTES     ?= 15
IMAGE       ?=

# Only from make's command line: an exported KUBECONFIG is no invitation to run pods on that cluster.
ifeq ($(origin KUBECONFIG),environment)
override KUBECONFIG :=
endif

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
unexport KUBECONFIG
# With it, every start of Airflow would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv$(addprefix -,$(PYTHON))$(addprefix -airflow-,$(AIRFLOW))
BIN  := $(VENV)/bin
STAMP := $(VENV)/.installed

# With AIRFLOW= the lock does not apply: dependencies are resolved for that version. BOUNDS-3.2 excludes releases that
# came later: Airflow 3.2 does not start with the first, runs no task in its own process (`dag.test()`) with the second,
# and makes the third warn of what it does.
BOUNDS-3.2 := 'fastapi<0.140' 'svcs<26.2' 'sqlalchemy<2.1'
ifeq ($(AIRFLOW),)
REQUIREMENTS := -r requirements.lock
else
REQUIREMENTS := -e '.[demo,test,dev]' 'apache-airflow==$(AIRFLOW)' $(BOUNDS-$(basename $(AIRFLOW)))
endif

# The interpreter PYTHON: on the path, or pyenv's. A pyenv shim may be on the path and still fail to run.
define find_python
for python in $(if $(PYTHON),python$(PYTHON) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(PYTHON)*/bin/python3,python3); do \
  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then break; fi; python=; \
done; \
[ -n "$$python" ] || { echo 'make: no python$(PYTHON) (3.10 or newer) found on the path or in pyenv' >&2; exit 1; }
endef

.PHONY: help chaos demo docs dist sbom test quick conformance deployments check lint soak bench kind lock clean install

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(STAMP) ## the virtual environment, from the lock

$(STAMP): requirements.lock pyproject.toml
	@$(find_python); echo "Installing into $(VENV) with $$("$$python" --version); the first time takes a minute or two"
	@$(find_python); [ -x $(BIN)/python ] || "$$python" -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "make: $$python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@[ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet uv
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode $(REQUIREMENTS)
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

demo: $(STAMP) ## 200 pods in a whole Airflow; PODS= POD_SECONDS= MODE=all KEEP=1 KUBECONFIG= FAULTS=1
	@$(BIN)/kpo-async demo --pods $(PODS) --pod-seconds $(POD_SECONDS) --mode $(MODE) \
	  $(if $(KEEP),--keep) $(if $(KUBECONFIG),--kubeconfig '$(KUBECONFIG)') $(if $(FAULTS),--faults)

# Small tests run side by side, four on two cores. Of whole Airflows, which wait half of their time, two do; those
# marked `alone` have the machine to themselves. A failure does not hide what comes after it.
# Whole Airflows and real containers may starve beside each other: what fails there is run again alone, and both show.
test: $(STAMP) ## the whole suite against the embedded cluster; PYTHON= AIRFLOW= PYTEST_ARGS=
ifeq ($(PYTEST_ARGS),)
	@status=0; \
	$(QUICK) || status=1; \
	$(LARGE) and not alone' -n 2 --dist loadscope || { $(AGAIN); $(LARGE) and not alone' $(FAILED); } || status=1; \
	$(LARGE) and alone' || status=1; \
	exit $$status
else
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

quick: $(STAMP) ## all tests but slow ones and whole Airflows, in parallel: for the inner loop
	@$(QUICK) $(PYTEST_ARGS)

QUICK = $(BIN)/python -m pytest -n auto --dist worksteal -m 'not airflow and not slow and not soak and not deployments'
AGAIN = echo '--- again, alone: what has failed beside others'
FAILED = --last-failed --last-failed-no-failures=none
LARGE = $(BIN)/python -m pytest --durations=10 -m '(airflow or slow) and not soak and not deployments

# Pods of different tests do not meet, but all tests miss an API server that is away. The outages come first: one test
# needs a server that has been restarted.
CONFORMANCE = $(BIN)/python -m pytest tests/conformance --cluster='$(KUBECONFIG)'
# pytest's exit code when PYTEST_ARGS leave none.
NO_TESTS := 5

conformance: $(STAMP) ## tests/conformance against a real API server: KUBECONFIG=...
	@[ -n '$(KUBECONFIG)' ] || { echo 'make: say which cluster: make conformance KUBECONFIG=path' >&2; exit 1; }
	@status=0; \
	$(CONFORMANCE) -m outage $(PYTEST_ARGS) || [ $$? -eq $(NO_TESTS) ] || status=1; \
	$(CONFORMANCE) -n auto -m 'not outage' $(PYTEST_ARGS) || [ $$? -eq $(NO_TESTS) ] || \
	  { $(AGAIN); $(CONFORMANCE) -m 'not outage' $(FAILED) $(PYTEST_ARGS); } || status=1; \
	exit $$status

deployments: $(STAMP) ## whole Airflows as people run them: KUBECONFIG=... IMAGE=an image there with Airflow and this package
	@$(DEPLOYMENTS) -n 2 --dist loadfile $(PYTEST_ARGS) || { $(AGAIN); $(DEPLOYMENTS) $(FAILED) $(PYTEST_ARGS); }

DEPLOYMENTS = $(BIN)/python -m pytest -m deployments --durations=0 --durations-min=1 tests/deployments \
  $(if $(KUBECONFIG),--cluster='$(KUBECONFIG)') $(if $(IMAGE),--image='$(IMAGE)')

lint: $(STAMP) ## format, lint, types, layers, shell programs, CI workflows
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/shellcheck .ci/run tests/kind.sh $$(find kpo_async -name '*.sh')
	@$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

check: lint ## lint, and the tests with the coverage gate
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

soak: $(STAMP) ## faults for an hour (SOAK_SECONDS=)
	@SOAK_SECONDS=$${SOAK_SECONDS:-3600} $(BIN)/python -m pytest -m soak --timeout 0 $(PYTEST_ARGS)

docs: $(STAMP) ## the documentation site, in build/site; strict about links, pages and code
	@$(BIN)/python -m pytest -q tests/docs $(PYTEST_ARGS)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

chaos: $(STAMP) ## a whole Airflow under kills, freezes and users; MINUTES= KUBECONFIG=
	@KUBECONFIG='$(KUBECONFIG)' $(BIN)/python benchmarks/chaos.py --minutes $(MINUTES)

bench: $(STAMP) ## every benchmark, side by side with the incumbent where it applies
	@for benchmark in $(filter-out benchmarks/chaos.py,$(wildcard benchmarks/*.py)); do echo "== $$benchmark"; $(BIN)/python $$benchmark; done

kind: $(STAMP) ## tests/conformance and tests/deployments on a kind cluster of its own (needs docker, kind and root)
	@tests/kind.sh '$(VENV)/kind.kubeconfig'

lock: ## resolve requirements.lock again, for every Python at once
	@[ -x $(BIN)/uv ] || $(MAKE) --no-print-directory install
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --generate-hashes --no-emit-index-url \
	  --upgrade --custom-compile-command 'make lock' pyproject.toml --output-file requirements.lock

dist: $(STAMP) ## wheel and sdist, in dist
	@rm -rf dist
	@$(BIN)/uv build --quiet --out-dir dist
	@ls -l dist

sbom: $(STAMP) ## the locked runtime dependencies as CycloneDX, in build/sbom.json
	@mkdir -p build
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
	  --constraints requirements.lock pyproject.toml --output-file build/requirements.txt
	@$(BIN)/uvx --quiet --from 'cyclonedx-bom>=7' cyclonedx-py requirements build/requirements.txt \
	  --pyproject pyproject.toml --output-file build/sbom.json
	@echo "build/sbom.json"

clean: ## caches and extra virtual environments; .venv stays
	@rm -rf .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
