"""16-bit maps value by value: all as they are read, every kind of rounding as they are written, as torch's."""

import pytest
import torch

from fusednorm.engine.backends import kernel
from tests.cases import BACKENDS

pytestmark = pytest.mark.skipif("cpu" not in BACKENDS, reason="no native extension")

BITS = torch.arange(-(1 << 15), 1 << 15).to(torch.int16)
TYPES = [torch.bfloat16, torch.float16]


def plane_affine_cpu(x, scale=1.0, residual=None):
    """scale x + residual, of one plane."""
    of_plane = [torch.full((1, 1), value) for value in (0.0, scale, 0.0)]
    kept = None if residual is None else residual.view(1, 1, -1)
    y, _ = kernel("plane_affine", "cpu")(x.view(1, 1, -1), *of_plane, kept, "identity", False)
    return y.flatten()


def same(found, expected):
    """Value for value, NaN for NaN; -0 + 0 is 0."""
    nan = expected.isnan()
    assert torch.equal(found.isnan(), nan)
    assert torch.equal(found[~nan], expected[~nan])


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("length", [1 << 16, 11])  # whole vectors; parts too
def test_every_value_cpu(dtype, length):
    """Half of x, so that subnormals are rounded, and infinities and NaN stay."""
    for x in BITS.view(dtype).split(length):
        same(plane_affine_cpu(x, 0.5), (x.float() * 0.5).to(dtype))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_nan_of_any_bits_cpu(dtype):
    """Rounded as if it were a number, the last of these would become -0."""
    for bits in (0x7FC00000, 0x7F800001, 0x7FFFFFFF):
        nan = torch.tensor(bits, dtype=torch.int32).view(torch.float32).item()
        assert plane_affine_cpu(torch.ones(37, dtype=dtype), nan).isnan().all()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_roundings_cpu(dtype):
    """Sums of two 16-bit values fall between two such, half-way (to even), above, below and beyond the largest."""
    torch.manual_seed(0)
    x = BITS.view(dtype)
    neighbours = (BITS ^ 1).view(dtype)
    for residual in (neighbours, -neighbours * 3, x[torch.randperm(x.numel())], x * 2**-7, x * 2**-9, x * 2**-11):
        same(plane_affine_cpu(x, residual=residual), (x.float() + residual.float()).to(dtype))
