from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from fusednorm import triton_kernels

WITHOUT_TRITON = """
import sys
sys.modules["triton"] = None  # import fails
from fusednorm import triton_kernels
import torch
ready, why = triton_kernels.available()
assert not ready
assert "Triton cannot be imported" in why, why
assert triton_kernels.fits(torch.zeros(2, 3)) == why
"""

WITHOUT_DEVICE = """
from fusednorm import triton_kernels
import torch
ready, why = triton_kernels.available()
assert not ready
assert "no CUDA device" in why, why
assert triton_kernels.fits(torch.zeros(2, 3)) == "x is on cpu, not on a CUDA device"
"""


@pytest.mark.parametrize("program", [WITHOUT_TRITON, WITHOUT_DEVICE])
def test_reasons(program: str) -> None:
    if program is WITHOUT_DEVICE and torch.cuda.is_available():
        pytest.skip("there is a device")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)


def test_names() -> None:
    assert set(triton_kernels.__all__) <= set(dir(triton_kernels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 3, 4, 5, 6)])
def test_fits(size: tuple[int, ...], dtype: torch.dtype) -> None:
    assert triton_kernels.fits(torch.zeros(size, dtype=dtype)) is None


def test_does_not_fit() -> None:
    assert triton_kernels.fits(torch.zeros(3)) == "x has 1 dimensions, not 2 to 5"
    assert triton_kernels.fits(torch.zeros(2, 3, dtype=torch.int32)) == "x has type torch.int32"
    assert triton_kernels.fits(torch.zeros(2, 3, device="meta")) == "x is on meta, not on a CUDA device"
    assert triton_kernels.fits(torch.eye(3).to_sparse()) == "x has layout torch.sparse_coo"
