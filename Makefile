# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
OUT ?= out
FIXTURES := android_demo/build/fixtures
# Two files of tests at a time, one thread each: idle threads of one would slow down the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-all test-arm64 test-browser test-android lint figures clean
.PHONY: android android-classes android-fixtures

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

# What the app's fixtures need: they share the tests' conftest, and none of their other tools.
$(VENV)/.pytest: $(VENV)/.base
	$(PIP) install -q -c constraints.txt pytest
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

# One after the other, since they build in one place.
# The Android app on the JVM with real engines; skipped where Maven or Debian's aapt are missing.
test-android: $(VENV)/.dev
	$(PYTEST) -n 0 -m android $(TESTS)

# The Android app, tested, shrunk and signed, with BUNDLE (a folder or .zip, or several) inside; see
# docs/android.md for the tools that it needs and for signing with a key of your own.
BUNDLE ?= $(OUT)/android/motion-a0-stream.zip
APK ?= $(OUT)/android/movinet-edge.apk
android:
	$(MAKE) -j 2 $(BUNDLE) android-fixtures android-classes
	$(BIN)/python -m android_demo.make_apk $(BUNDLE) --out $(APK) --fixtures $(FIXTURES)

# Maven's downloads and the compiler need nothing of Python: they run while that is set up. What
# goes wrong, the build proper says.
android-classes:
	cd android_demo && mvn -q -B -ntp test-compile >/dev/null 2>&1 || true

# The default checkpoint in floats and in 8 bits, for the engine that the app always has.
$(OUT)/android/motion-a0-stream.zip: $(VENV)/.base
	rm -rf $(OUT)/android/videos
	mkdir -p $(OUT)/android
	$(BIN)/python -m movinet_edge data make motion --out $(OUT)/android/videos --per-class 6 --seed 1
	$(BIN)/python -m movinet_edge export motion-a0-stream --out $@ --format tflite \
		--precision fp32 --precision int8 --calibrate $(OUT)/android/videos

# What the core's tests read, kept for `mvn verify` in android_demo; written by two processes.
android-fixtures: $(VENV)/.pytest
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.android_fixtures $(FIXTURES)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the README shows, drawn again from the committed records.
figures: $(VENV)/.base
	$(BIN)/python -m movinet_edge.benchmarks.figures

clean:
	rm -rf $(OUT) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .arm64 .lab
