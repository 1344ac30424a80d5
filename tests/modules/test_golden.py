"""The layers on the numbers of the official code and of the paper: fused on every backend, and the references."""

import pytest
import torch

import fusednorm
from fusednorm import reference
from tests import golden_cases
from tests.cases import BACKENDS


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden(backend, case, dtype, memory_format):
    with fusednorm.use_backend(backend):
        case.check(case.build(fusednorm, dtype), dtype, memory_format)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_batch_average(backend, dtype):
    """The whole protocol with our own average over the official batches, pooled as the official code's is."""
    (case,) = (case for case in golden_cases.CASES if isinstance(case, golden_cases.BatchAverageCase))
    layer = case.build(fusednorm, dtype)
    layer.running_mean.fill_(7)
    layer.running_var.fill_(7)
    with fusednorm.use_backend(backend):
        fusednorm.average_statistics(layer, case.samples(dtype), pooled=True)
        case.check(layer, dtype)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        pytest.param(case, dtype, id=f"{case.name}-{str(dtype).removeprefix('torch.')}")
        for case in golden_cases.CASES
        for dtype in case.reference_dtypes
    ],
)
def test_golden_reference(case, dtype):
    case.check(case.build(reference, dtype), dtype)


def test_all_cases_are_here():
    files = {path.relative_to(golden_cases.GOLDEN).as_posix() for path in golden_cases.GOLDEN.glob("*/*.npz")}
    assert len(files) == 15 + 8
    assert sorted(case.file for case in golden_cases.CASES) == sorted(files)
