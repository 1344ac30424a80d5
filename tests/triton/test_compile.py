"""The generated code, without a GPU: every read and write of a map in 16 bytes, nothing spilled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

TARGETS = [90, 80]
DTYPES = {"float32": 4, "bfloat16": 8}  # values in 16 bytes

# The maps a kernel reads and writes: 16 values a thread each, with the default table.
KERNELS = {
    "plain plane_moments_kernel": (1, 0),
    "plain plane_affine_kernel": (1, 1),
    "plain plane_affine_reduce_kernel": (2, 0),
    "plain plane_affine_grad_kernel": (2, 1),
    "residual plane_affine_kernel": (2, 1),
    "residual plane_affine_reduce_kernel": (2, 1),
    "residual plane_affine_grad_kernel": (2, 1),
}
MERGING = ["plain merge_moments_kernel", "plain merge_sums_kernel", "residual merge_sums_kernel"]
LAYOUTS = ["planar", "channels_last"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    root = Path(__file__).parents[2]

    @cache
    def reports(target: int, dtype: str) -> Any:
        command = [sys.executable, "-m", "tests.triton.compile_ahead", str(target), dtype]
        return json.loads(subprocess.check_output(command, env=environment, cwd=root, text=True))

    return reports


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_compiles_and_nothing_is_spilled(compiled: Any, target: int, dtype: str) -> None:
    reports = compiled(target, dtype)
    expected = {f"{layout} {kernel}" for layout in LAYOUTS for kernel in KERNELS}
    assert set(reports) == expected | {f"channels_last {kernel}" for kernel in MERGING}
    for name, report in reports.items():
        assert report["STACK"] == report["LOCAL"] == 0, name
        assert report["REG"] <= 128, name  # four programs an SM at least


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_maps_are_read_and_written_in_16_bytes(
    compiled: Any, target: int, dtype: str, kernel: str, layout: str
) -> None:
    report = compiled(target, dtype)[f"{layout} {kernel}"]
    loads, stores = KERNELS[kernel]
    accesses = 16 // DTYPES[dtype]  # a thread, of each map
    assert report["ld.global.v4.b32"] >= loads * accesses
    assert report.get("st.global.v4.b32", 0) == stores * accesses
    narrow = ("ld.global.b16", "ld.global.v2.b16", "ld.global.v4.b16", "ld.global.b32", "ld.global.v2.b32")
    assert sum(report.get(access, 0) for access in narrow) <= 5  # center, scale, shift, a, b
    assert not {"st.global.b16", "st.global.v2.b16", "st.global.v4.b16", "st.global.v2.b32"} & set(report)
