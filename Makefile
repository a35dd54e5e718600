# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
OUT ?= out
# Two files of tests at a time, one thread each: idle threads of one would slow down the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all test-arm64 test-browser test-android android-fixtures lint figures clean

# torch comes first: nothing installed later may pull a second one.
$(VENV)/.base: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch (a few minutes on a slow line) ..."
	$(PIP) install --progress-bar on -q -c constraints.txt torch
	@echo "installing movinet-edge with its exporters and trainer ..."
	$(PIP) install -q -c constraints.txt -e '.[train]'
	touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "installing the test tools and TensorFlow ..."
	$(PIP) install -q -c constraints.txt -e '.[train,tf,dev]'
	touch $@

# Export, verify, measure, classify; prints where bundle and report lie.
demo: $(VENV)/.base
	$(BIN)/python -m movinet_edge.cli.demo $(OUT)

test: $(VENV)/.dev lint
	$(PYTEST) -m "not slow and not arm64 and not device and not gpu and not browser and not android"

# Also the long ones: every model in every form.
test-all: $(VENV)/.dev lint
	$(PYTEST) -m "not arm64 and not device and not gpu and not browser and not android"

# Bundles on emulated ARM64 cores, which are set up first; skipped where Debian's packages cannot be
# had. Devices over adb and ssh are among them (root, Linux 6.7). They are few files, so tests are
# dealt out singly.
test-arm64: $(VENV)/.dev
	$(PYTEST) --dist load -m arm64

# Pages in Chromium (or what MOVINET_EDGE_BROWSER names); skipped where there is none.
test-browser: $(VENV)/.dev
	$(PYTEST) -m browser

# The app's core on the JVM with real engines; skipped where Maven is not installed.
test-android: $(VENV)/.dev
	$(PYTEST) -m android

# What the core's tests read, kept for `mvn verify` in android_demo.
android-fixtures: $(VENV)/.dev
	$(BIN)/python -m tests.android_fixtures android_demo/build/fixtures

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the README shows, drawn again from the committed records.
figures: $(VENV)/.base
	$(BIN)/python -m movinet_edge.benchmarks.figures

clean:
	rm -rf $(OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .arm64 .lab
