# Every target does its own set-up, in .venv; nothing needs to be prepared but Python 3.10 or later.
# A C++ compiler is used where there is one; without, the package installs without its native extension.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --constraint constraints.txt
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.inc' -o -name '*.cu' -o -name '*.cuh')
DEMO_FLAGS ?=
TEST_FLAGS ?=
GPU_FLAGS ?=
BENCH_FLAGS ?=
BENCH_BASELINE ?= $(lastword $(sort $(wildcard bench/results/quick-*.json)))
CHECK_FLAGS ?= --margin 3 --tolerance 1

.PHONY: demo test test-all check-cuda check-kernels gpu lint format bench bench-check microbench clean help

help:
	@echo "make demo    train a small network three ways on real images: BatchNorm, AN in plain PyTorch, AN fused"
	@echo "make test    the tests; make test-all: those that take longer"
	@echo "make check-cuda     compile the CUDA kernels, where nvcc is; no GPU needed"
	@echo "make check-kernels  look into the machine code of CUDA's and Triton's kernels; no GPU needed"
	@echo "make gpu     build, check, time and test on a GPU, in the environment that there is"
	@echo "make lint    ruff, mypy and clang-format, checking"
	@echo "make format  ruff and clang-format, writing"
	@echo "make bench   the benchmark on this machine, into build/bench; BENCH_FLAGS=--quick in two minutes"
	@echo "make bench-check    whether ratios got worse than in the stored run"
	@echo "make microbench     the same cases for pytest-benchmark, whose JSON compares two commits"
	@echo "make clean   remove what the others made"

# torch first: the extension is built against it, in this environment (--no-build-isolation), not against a second copy.
$(VENV)/tools: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --quiet torch setuptools wheel pybind11 ninja
	@touch $@

$(VENV)/ready: $(VENV)/tools pyproject.toml setup.py csrc/toolchain.py $(NATIVE)
	$(PIP) --no-build-isolation --verbose --editable '.[triton,demo,models,test,lint]' >$(VENV)/install.log 2>&1 \
	  || { tail -n 50 $(VENV)/install.log; exit 1; }
	@sed -n 's/^ *\(fusednorm: .*\)/\1/p' $(VENV)/install.log
	@$(BIN)/fusednorm info
	@touch $@

demo: $(VENV)/ready
	$(BIN)/fusednorm demo $(DEMO_FLAGS)

# Two processes of one thread each; tests of threading set their own number. Then those of backends once more, over the CUDA
# kernels run on the CPU under sanitizers.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/ready
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow" $(TEST_FLAGS)
	$(BIN)/python -m tests.emulation --numprocesses 2 -m "not slow" $(TEST_FLAGS)

# The emulated kernels on devices that keep nothing on the chip, keep it in clusters, or have none, threads in other orders.
test-all: export OMP_NUM_THREADS = 1
test-all: $(VENV)/ready
	$(BIN)/python -m pytest --numprocesses 2 -m slow $(TEST_FLAGS)
	$(BIN)/python -m tests.emulation --numprocesses 2 $(TEST_FLAGS) --emulate "shared=0 seed=1"
	$(BIN)/python -m tests.emulation --numprocesses 2 $(TEST_FLAGS) --emulate "shared=19500 multiprocessors=8 seed=2"
	$(BIN)/python -m tests.emulation --numprocesses 2 $(TEST_FLAGS) --emulate "shared=24000 major=8 multiprocessors=7 seed=3"

# What can be known of GPU kernels without a GPU. FUSEDNORM_REQUIRE_NVCC=1: it is an error if there is no nvcc.
check-cuda: $(VENV)/ready
	$(BIN)/python -m tests.codegen.compile

check-kernels: check-cuda
	$(BIN)/python -m tests.codegen

# With the torch and the nvcc there are: machines with a GPU have their own, and often no way to another.
gpu:
	$(PYTHON) -m bench.gpu $(GPU_FLAGS)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE)

bench: $(VENV)/ready
	@mkdir -p build/bench
	$(BIN)/python -m bench --json build/bench/run.json --csv build/bench/run.csv --plot build/bench $(BENCH_FLAGS)

# Ratios of a run against the newest stored one: wide margins, as another machine has other ratios.
# A check that tells more, on the machine of a stored run:
#   make bench-check BENCH_FLAGS=layers BENCH_BASELINE=bench/results/<run>.json CHECK_FLAGS=
bench-check: BENCH_FLAGS = layers --quick
bench-check: $(VENV)/ready
	@test -f "$(BENCH_BASELINE)" || { echo "BENCH_BASELINE: no stored run '$(BENCH_BASELINE)'"; exit 1; }
	@mkdir -p build/bench
	$(BIN)/python -m bench $(BENCH_FLAGS) --json build/bench/check.json
	$(BIN)/python -m bench.compare $(BENCH_BASELINE) build/bench/check.json $(CHECK_FLAGS)

microbench: $(VENV)/ready
	@mkdir -p build/bench
	$(BIN)/python -m pytest tests/microbench --benchmark-only --benchmark-json build/bench/microbench.json $(TEST_FLAGS)

clean:
	rm -rf $(VENV) build *.egg-info fusednorm/_C*.so fusednorm/_cuda*.so fusednorm/_eager*.so demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
