"""The numbers of the official code and of the paper, on the device."""

import pytest
import torch

import fusednorm
from tests.gpu.device import BACKENDS, DEVICE

pytest.importorskip("numpy", reason="numpy reads the golden files")

from tests import golden_cases


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden(backend, case, dtype, memory_format):
    with fusednorm.use_backend(backend):
        case.check(case.build(fusednorm, dtype, DEVICE), dtype, memory_format)
