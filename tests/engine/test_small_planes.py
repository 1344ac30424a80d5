"""Small dense planes have ways of their own through csrc/cpu: several at a time, or as one stream of vectors."""

import itertools

import pytest
import torch

from fusednorm.engine import torch_kernels
from fusednorm.engine.backends import kernel
from tests.cases import BACKENDS, TYPES

pytestmark = pytest.mark.skipif("cpu" not in BACKENDS, reason="no native extension")

SIZES = [*range(2, 66), 196]  # of one position it is channels that lie side by side
PLANES = [(2, 40), (3, 7), (1, 5), (5, 1)]  # a multiple of no vector's lanes; groups that span samples; less than one
COEFFICIENTS = {
    "dense": lambda N, C: torch.randn(N, C),
    "one for all samples": lambda N, C: torch.randn(1, C).expand(N, C),
    "one for all channels": lambda N, C: torch.randn(N, 1).expand(N, C),
    "transposed": lambda N, C: torch.randn(C, N).T,
}
CASES = [
    (size, *case)
    for size, case in zip(SIZES, itertools.cycle(itertools.product(PLANES, TYPES, COEFFICIENTS)), strict=False)
]


def with_gaps(x):
    """The same values, planes apart, which are walked one by one."""
    wide = torch.full((*x.shape[:2], x.shape[2] + 3), float("nan"), dtype=x.dtype)
    wide[..., : x.shape[2]] = x
    return wide[..., : x.shape[2]]


@pytest.mark.parametrize("act", ["identity", "relu", "leaky_relu", "silu"])
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize(("size", "planes", "dtype", "coefficients"), CASES)
def test_planes_side_by_side_as_apart_cpu(size, planes, dtype, coefficients, act, residual):
    """y, mask, g and dx bit for bit, sums as torch's."""
    torch.manual_seed(size)
    x, z, dy = (torch.randn(*planes, size, dtype=TYPES[dtype]) for _ in range(3))
    z = z if residual else None
    compute = torch.float64 if dtype == "float64" else torch.float32
    center, scale, shift, a, b = (COEFFICIENTS[coefficients](*planes).to(compute) for _ in range(5))
    masked = act in ("relu", "leaky_relu")

    def passes(lay):
        maps = [t if t is None else lay(t) for t in (x, z, dy)]
        y, mask = kernel("plane_affine", "cpu")(maps[0], center, scale, shift, maps[1], act, masked)
        kept = (None, mask) if masked else (maps[1], None)
        g, *sums = kernel("plane_affine_reduce", "cpu")(maps[2], maps[0], center, scale, shift, *kept, act, True)
        dx = kernel("plane_affine_grad", "cpu")(maps[2], maps[0], center, scale, shift, *kept, a, b, act)
        return (y, mask, g, dx), sums

    (found, sums), (expected, _) = passes(lambda t: t), passes(with_gaps)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    wide = [t if t is None else t.double() for t in (dy, x, center, scale, shift, z)]
    exact = torch_kernels.plane_affine_reduce(*wide, None, act, False)[1:]
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    if masked and dtype != "float64":  # which side of 0 z is rounded to decides
        exact = torch_kernels.plane_affine_reduce(*wide[:5], None, found[1], act, False)[1:]
    for ours, theirs in zip(sums, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize(("size", "planes", "dtype", "_"), CASES)
def test_moments_of_planes_side_by_side_cpu(size, planes, dtype, _):
    torch.manual_seed(size)
    x = (1e3 + torch.randn(*planes, size)).to(TYPES[dtype])
    mean, var = kernel("plane_moments", "cpu")(x)
    exact = x.double().flatten(2)
    torch.testing.assert_close(mean, exact.mean(2), rtol=1e-9, atol=0)
    torch.testing.assert_close(var.double(), exact.var(2, correction=0), rtol=1e-5, atol=1e-5)


def test_padding_of_a_mask_is_not_the_next_planes_cpu():
    """Bits beyond a plane are nobody's: what they are must not matter."""
    x, dy = torch.randn(2, 24, 5), torch.randn(2, 24, 5)
    center, scale, shift = (torch.randn(2, 24) for _ in range(3))
    _, mask = kernel("plane_affine", "cpu")(x, center, scale, shift, None, "relu", True)
    for each in ("plane_affine_grad", "plane_affine_reduce"):
        last = (None, None, "relu") if each == "plane_affine_grad" else ("relu", False)
        masks = mask, mask | torch.full_like(mask, 0xE0)
        found = [kernel(each, "cpu")(dy, x, center, scale, shift, None, m, *last) for m in masks]
        for ours, theirs in zip(*(f if isinstance(f, tuple) else (f,) for f in found), strict=True):
            assert torch.equal(ours, theirs)
