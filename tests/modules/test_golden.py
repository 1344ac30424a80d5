"""The fused layers on the numbers of the official code and of the paper, on every backend."""

import pytest
import torch

import fusednorm
from tests import golden_cases
from tests.cases import BACKENDS


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden(backend, case, dtype, memory_format):
    with fusednorm.use_backend(backend):
        case.check(case.build(fusednorm, dtype), dtype, memory_format)
