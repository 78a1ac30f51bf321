# `make up` provisions and verifies a Pi, `make test` proves the project, `make help` lists the rest.
# BOARD chooses another emulated board, INVENTORY real ones: make up INVENTORY=ansible/inventory/mine

PYTHON ?= python3
BOARD ?= pi4
INVENTORY ?= ansible/inventory/emulated
SUITES ?= tests/board
BIN := $(CURDIR)/.venv/bin
READY := .venv/ready
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible/ansible.cfg
export PYTHONPATH := $(CURDIR)/roles/models/pipeline:$(CURDIR)/image
MODEL := all-MiniLM-L6-v2-int8
LOCK := --quiet --system-certs --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-annotate --no-header
# What ONNX Runtime and tokenizers depend on and inference never imports; 30 MB on the card.
NEVER_IMPORTED := anyio click colorama filelock flatbuffers fsspec h11 hf-xet httpcore2 httpx2 httpx2-jsfetch \
    huggingface-hub packaging protobuf pyyaml truststore
EMULATED := $(filter ansible/inventory/emulated,$(INVENTORY))
# `make serve` brings its own model, unless the user named a folder or a file of settings, or the tier has none.
SERVED_MODEL := $(if $(PINCH_CONFIG)$(filter minimal,$(PINCH_TIER))$(filter-out undefined,$(origin PINCH_MODEL_DIR)),,\
    .state/$(MODEL))

.PHONY: help up down serve test test-all verify browser image-base image-bookworm image-trixie-16k image-armhf \
    lint docs lock benchmark

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(READY) $(if $(EMULATED),image-base) ## provision the boards of INVENTORY, verify them, show one at work
	$(if $(EMULATED),image/emulator up $(BOARD))
	ansible-playbook -i $(INVENTORY) ansible/site.yml
	pytest tests/board --hosts='ansible://pinch' --ansible-inventory=$(INVENTORY)
	python -m tests.demonstration --inventory $(INVENTORY)

# BOARD's default is for `up`: only a board that somebody names is shut down alone.
down: $(READY) ## shut the emulated boards down
	image/emulator down $(if $(filter-out file,$(origin BOARD)),$(BOARD))

# The environment beats the file that PINCH_CONFIG names, so beside one there are no defaults.
ifndef PINCH_CONFIG
serve: export PINCH_STATE_DIR ?= $(CURDIR)/.state
serve: export PINCH_TOKENS_FILE ?= $(CURDIR)/.state/tokens
serve: export PINCH_MODEL_DIR ?= $(CURDIR)/.state/$(MODEL)
endif
serve: $(READY) ## run the service on this machine in the foreground, its state in .state/
	$(if $(SERVED_MODEL),@test -e $(SERVED_MODEL)/manifest.json || \
	    python -m pinch_models build $(MODEL) --out $(SERVED_MODEL))
	exec pinch serve

verify: $(READY) ## verify the boards of INVENTORY side by side, one report in reports/; SUITES names what is run
	ansible-playbook -i $(INVENTORY) ansible/verify.yml -e '{"verify_suites": "$(SUITES)"}'

test: $(READY) browser image-base lint ## what CI runs: every suite but the long scenarios
	pytest service/tests tests/roles tests/lifecycle tests/fleet tests/matrix tests/profiles tests/faults tests/provider tests/openclaw
	pytest roles/models/pipeline/tests
	pytest image/tests -m "not emulated"
	molecule test -s default

test-all: test image-bookworm image-trixie-16k image-armhf ## that, the whole load on every tier, and the power cuts
	python -m tests.fleet.hundred
	pytest image/tests -m emulated
	molecule test -s minimal
	molecule test -s pi4
	molecule test -s swap
	molecule test -s upgrade
	molecule test -s faults
	python -m tests.matrix
	@echo "Root makes trees of Debian, for their file owners and mounts, and runs the service on its packages"
	$(ROOT) env PATH="$(PATH)" PINCH_CACHE="$${PINCH_CACHE:-$$HOME/.cache/pinch}" \
	    PINCH_DEBIAN_MIRROR="$$PINCH_DEBIAN_MIRROR" $(BIN)/python -B -m pytest -p no:cacheprovider tests/distribution

# Where there is no such package, as on Ubuntu, the tests of the page are skipped and say so.
browser: $(READY)
	@test -e /usr/bin/chromium || { echo "Root installs the browser that tests the page: chromium"; \
	    $(ROOT) apt-get update -q && { apt-cache show chromium >/dev/null 2>&1 || exit 0; } && \
	    $(ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }

# The user makes the cache folder, so that what root makes in it can be given to its owner.
image-base: ## build the base image of the emulated boards, unless it is cached
image-base image-bookworm image-trixie-16k image-armhf: image-%: $(READY)
	@test -e "$$(image/build --where $*)/manifest.json" || { cache="$${PINCH_CACHE:-$$HOME/.cache/pinch}"; \
	    echo "Root builds the $* image of the emulated boards, for its file owners and mounts, into $$cache/image"; \
	    mkdir -p "$$cache" && $(ROOT) env PINCH_CACHE="$$cache" PINCH_DEBIAN_MIRROR="$$PINCH_DEBIAN_MIRROR" \
	        $(BIN)/python -B image/build $*; }

lint: $(READY) ## ruff, mypy strict, ansible-lint production, yamllint
	ruff check .
	ruff format --check .
	mypy service ansible roles/pinch roles/preflight/planning roles/preflight/module_utils \
	    roles/packages roles/common roles/memory_cgroup roles/sysctl roles/readahead roles/journald roles/tmp \
	    roles/backup_archive roles/restore roles/reset \
	    roles/readme.py roles/models/pipeline/pinch_models image/pinch_image tests
	MYPYPATH=roles/models/pipeline:roles/models/pipeline/tests mypy roles/models/pipeline/tests
	mypy image/tests
	yamllint --strict .
	ansible-lint --offline --profile production --strict

benchmark: $(READY) ## measure: speed against bare parts, memory of clients, bursts and embedding, recall quality
	python -m tests.benchmarks.start
	python -m tests.benchmarks.keyword
	python -m tests.benchmarks.allocator
	python -m tests.benchmarks.connections
	python -m tests.benchmarks.delivery
	python -m tests.benchmarks.burst
	python -m tests.benchmarks.locomo
	python -m pinch_models check

docs: $(READY) ## write the generated documents anew
	python roles/readme.py
	python -m service.settings_doc

lock: $(READY) ## resolve the dependencies anew
	uv pip compile $(LOCK) --extra semantic pyproject.toml service/pyproject.toml -o requirements.lock
	uv pip compile $(LOCK) --no-emit-package colorama service/pyproject.toml -o service/requirements-minimal.lock
	uv pip compile $(LOCK) --extra semantic $(addprefix --no-emit-package ,$(NEVER_IMPORTED)) service/pyproject.toml \
	    -o service/requirements-semantic.lock

$(READY): requirements.lock image/apt-packages.txt service/pyproject.toml
	@missing=$$(for name in python3-venv $$(sed 's/#.*//' image/apt-packages.txt); do \
	    dpkg-query -W -f '$${db:Status-Abbrev}' $$name 2>/dev/null | grep -q '^ii' || echo $$name; done); \
	if [ -n "$$missing" ]; then \
	    echo "Root installs the packages that build and emulate boards:" $$missing; \
	    $(ROOT) apt-get update -q && $(ROOT) env DEBIAN_FRONTEND=noninteractive \
	        apt-get install -q -y --no-install-recommends $$missing; \
	fi
	$(PYTHON) -m venv .venv
	pip install --quiet --require-hashes -r requirements.lock
	pip install --quiet --no-deps --no-build-isolation -e service
	@touch $@
