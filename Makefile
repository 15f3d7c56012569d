# llava-gaze: `make` alone lists what there is. Every target works from a fresh clone; the environment is made first.

PYTHON ?= python3
MODEL ?= llava-things
NAME ?= default
PORT ?=
FROM ?=
RUN ?=
ARGS ?=
QUICK ?=
TORCH_INDEX ?=
KEYS ?=
REQUESTS ?= 20000
MINUTES ?= 60
WORLD ?= things

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
READY := $(VENV)/.ready
TOOLS := $(VENV)/.tools
LOCKED = $(PYTHON) scripts/upkeep/locked.py
SERVER_NAME = --name $(NAME)
CODE := handler viewer scripts tests
SHARED_OUT := --numprocesses 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev install install-tools download mar serve stop ping token demo demo-model report estimate test test-all test-gpu gpu bench truth faithfulness soak drill \
	fuzz golden pictures lint typecheck protos dependencies clean

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\n%s\n' 'Variables (VARIABLE=value after the target)'
	@printf '  %-12s %s\n' \
		MODEL 'which model: a YAML in model_store; serve, mar: or a checkpoint folder (now $(MODEL))' \
		NAME 'which server, when several run (now $(NAME))' \
		PORT 'first of five ports, or auto; empty: config.properties' \
		KEYS 'serve: a file of named keys that stay the same' \
		FROM 'download: a local folder instead of the hub' \
		RUN 'report: the .npz file of a run; gpu: which run of the schedule' \
		MINUTES 'soak: how long (now $(MINUTES)); figures of another length go to out/benchmarks' \
		REQUESTS 'fuzz: how many (now $(REQUESTS)); figures of another number go to out/benchmarks' \
		WORLD 'demo-model: things, or shapes, whose model the tests use (now $(WORLD))' \
		QUICK 'bench: anything makes it quick and less exact' \
		ARGS 'further arguments for the program behind the target' \
		PYTHON 'the Python (3.11 or later) that makes .venv (now $(PYTHON))' \
		TORCH_INDEX 'setup: an index to take torch from, such as a CPU-only one'

##@ Prepare
setup: $(READY) ## Make .venv with what serves, asks and renders, pinned

setup-dev: $(TOOLS) ## Add what tests, checks and measures (make test does it by itself)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: PYTHON: got $$($(PYTHON) -V 2>&1), expected 3.11 or later; run: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(LOCKED) $@ $^ -- $(MAKE) --no-print-directory install

$(TOOLS): $(READY)
	@$(LOCKED) $@ $^ -- $(MAKE) --no-print-directory install-tools

# What the two above do, one run of make at a time.
install:
	@echo "installing into $(VENV), a few minutes" >&2
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(if $(TORCH_INDEX),$(PY) -m pip install --no-deps --index-url $(TORCH_INDEX) $(shell grep '^torch==' constraints.txt) >&2)
	$(PY) -m pip install --quiet --editable '.[http,grpc,server,table]' --constraint constraints.txt
	@touch $(READY)

install-tools:
	@echo "adding the tools of the tests to $(VENV), a minute" >&2
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' > $(VENV)/dev.txt
	$(PY) -m pip install --quiet --requirement $(VENV)/dev.txt --constraint constraints.txt
	@touch $(TOOLS)

download: $(READY) ## Fetch and check the weights of MODEL (FROM=folder: a local copy)
	$(PY) scripts/download_model.py $(MODEL) $(if $(FROM),--from '$(FROM)') $(ARGS)

mar: $(READY) ## Build the archive of MODEL
	$(PY) scripts/build_mar.py $(MODEL) $(ARGS)

estimate: $(READY) ## Print what a request to MODEL takes, in bytes
	@$(PY) scripts/estimate.py $(MODEL) $(ARGS)

##@ Serve
serve: $(READY) ## Serve MODEL until Ctrl-C (PORT=auto: free ports)
	@$(PY) scripts/serve.py $(MODEL) $(SERVER_NAME) $(if $(PORT),--ports $(PORT)) $(if $(KEYS),--keys '$(KEYS)') $(ARGS)

stop: $(READY) ## Stop the server NAME
	@$(PY) scripts/serve.py --stop $(SERVER_NAME) $(ARGS)

ping: $(READY) ## Ask the server NAME for its health
	@$(PY) scripts/ping.py $(SERVER_NAME) $(ARGS)

token: $(READY) ## Print the key that requests need (make -s token)
	@$(PY) scripts/make_token.py $(SERVER_NAME) $(ARGS)

##@ See
demo: $(READY) ## Serve the small model, ask it, write reports and an index
	@$(PY) scripts/demo.py $(ARGS)

report: $(READY) ## Render the run file RUN=run.npz as HTML
	@test -n '$(RUN)' || { echo 'error: RUN: got nothing, expected the .npz file of a run; run: make report RUN=run.npz' >&2; exit 2; }
	$(BIN)/llava-viewer render '$(RUN)' $(ARGS)

demo-model: $(READY) ## Train the model of WORLD again into out (things: minutes on a GPU; shapes: hours on a CPU)
	$(PY) -m '$(WORLD).train' --out 'out/llava-$(WORLD)' $(ARGS)

##@ Check
test: $(TOOLS) ## Run the tests that this machine can run, but for the long ones (ARGS=-n0: in one process)
	$(PY) -m pytest tests -m 'not long' $(SHARED_OUT) $(ARGS)

test-all: $(TOOLS) ## Run the long tests too, and keep the output in out/test-all.log
	@mkdir -p out
	@{ $(PY) -m pytest tests --durations=40 $(SHARED_OUT) $(ARGS); echo $$? > out/test-all.code; } 2>&1 | tee out/test-all.log; \
		exit "$$(cat out/test-all.code)"

test-gpu: $(TOOLS) ## Run the tests that need a GPU
	$(PY) -m pytest tests/gpu -m gpu $(ARGS)

gpu: $(TOOLS) ## Measure on a GPU for minutes: the schedule's run RUN=1 to 5 or extra
	@test -n '$(RUN)' || { echo 'error: RUN: got nothing, expected 1, 2, 3, 4, 5 or extra; run: make gpu RUN=1' >&2; exit 2; }
	$(PY) -m bench.gpu.schedule '$(RUN)' $(ARGS)

bench: $(TOOLS) ## Measure speed and sizes into docs/benchmarks (QUICK=1: fewer runs, into out/benchmarks)
	$(PY) -m bench.all $(if $(QUICK),--quick) $(ARGS)

truth: $(TOOLS) ## Measure where every method points, on scenes of known boxes, into docs/methods.md
	$(PY) -m bench.known.truth $(ARGS)
	$(PY) -m bench.table

faithfulness: $(TOOLS) ## Measure which metrics rank methods as known boxes do, into docs/methods.md
	$(PY) -m bench.known.faithfulness $(ARGS)
	$(PY) -m bench.table

soak: $(TOOLS) ## Keep a server under mixed fire for MINUTES and judge every answer
	$(PY) -m stress.soak --minutes $(MINUTES) --out $(if $(filter 60,$(MINUTES)),docs/benchmarks,out/benchmarks)/soak.json $(ARGS)

fuzz: $(TOOLS) ## Fire REQUESTS hostile requests at a server and judge every reply
	$(PY) -m stress.fuzz --requests $(REQUESTS) --out $(if $(filter 20000,$(REQUESTS)),docs/benchmarks,out/benchmarks)/fuzz.json $(ARGS)

drill: $(TOOLS) ## Break a server in every known way, press it with every load, and judge what clients see
	$(PY) -m stress.drill $(if $(ARGS),$(ARGS),--write)

lint: $(TOOLS) ## Check style, imports and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/mypy

typecheck: $(TOOLS) ## Check types only
	$(BIN)/mypy

##@ Keep
golden: $(TOOLS) ## Write the golden files of the tests anew
	$(PY) -m upkeep.make_golden $(ARGS)

pictures: $(TOOLS) ## Take the screenshots of docs/images anew (needs Chromium)
	$(PY) -m upkeep.make_pictures $(ARGS)

dependencies: $(TOOLS) ## List every pinned package with its licence anew
	$(PY) -m upkeep.list_dependencies $(ARGS)

protos: $(TOOLS) ## Take the gRPC description anew from TorchServe's jar
	$(PY) -m upkeep.build_protos $(ARGS)

clean: ## Stop servers; remove archives, outputs and caches (.venv and weights stay)
	@for state in .run/*/server.json; do \
		test -e "$$state" || continue; $(PY) scripts/serve.py --stop --name "$$(basename "$$(dirname "$$state")")" || exit 1; done
	rm -rf .run demo-out out build dist model_store/*.mar
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find handler viewer scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +
