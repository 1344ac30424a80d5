"""Benchmarks are measured on request, with --benchmark-only (`make microbench`); otherwise each is called once."""

import pytest

pytest.importorskip("pytest_benchmark")


@pytest.fixture
def benchmark(benchmark, pytestconfig):  # type: ignore[no-untyped-def]
    benchmark.disabled = not pytestconfig.getoption("benchmark_only")
    return benchmark
