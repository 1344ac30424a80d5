from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal, per_plane
from .truth import ACTIVATIONS, ROUNDING, SUMS, close, gradient, over, pack, passes, preactivation, sums

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
MASKED = ["relu", "relu6", "leaky_relu"]


def check(x: Tensor, dy: Tensor, residual: Tensor | None, act: str, masked: bool, write_g: bool) -> None:
    center, scale, shift = per_plane(x, "full", "samples", "strided")
    z = preactivation(x, center, scale, shift, residual)
    mask = pack(passes(z, act), x) if masked else None
    given = None if masked else residual
    g, dscale, dshift = triton_kernels.plane_affine_reduce(dy, x, center, scale, shift, given, mask, act, write_g)
    exact = gradient(dy, z, act)
    if write_g:
        assert g.dtype == x.dtype
        assert g.stride() == torch.empty_like(x).stride()
        close(g, exact, ROUNDING[x.dtype], atol=8 * min(ROUNDING[x.dtype], 1e-6))
    else:
        assert g.shape == (0,)
    assert dscale.dtype == dshift.dtype == center.dtype
    tolerance = SUMS[x.dtype] * max(1, x.shape[2:].numel()) ** 0.5
    close(dscale, sums(exact * (x.double() - over(center, x))), tolerance)
    close(dshift, sums(exact), tolerance)


def maps(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    x, dy, residual = (MAPS[name](normal(dtype, seed)) for seed in (0, 1, 2))
    return x, dy, residual


@pytest.mark.parametrize("name", MAPS)
def test_every_map(name: str) -> None:
    x, dy, _ = maps(name)
    check(x, dy, None, "silu", masked=False, write_g=False)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("small_table")
def test_every_map_with_a_mask(name: str) -> None:
    check(*maps(name), "relu", masked=True, write_g=True)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["planar", "channels_last"])
def test_every_activation_and_type(name: str, dtype: torch.dtype, act: str) -> None:
    check(*maps(name, dtype), act, masked=False, write_g=True)


@pytest.mark.parametrize("act", MASKED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["planar", "channels_last"])
@pytest.mark.usefixtures("small_table")
def test_every_mask_and_type(name: str, dtype: torch.dtype, act: str) -> None:
    check(*maps(name, dtype), act, masked=True, write_g=False)


@pytest.mark.parametrize("name", ["planar", "channels_last long", "cropped"])
@pytest.mark.usefixtures("reducing_table", "wide")
def test_int64_offsets(name: str) -> None:
    check(*maps(name), "relu6", masked=True, write_g=True)


@pytest.mark.parametrize("name", ["planar", "channels_last", "cropped", "2-D"])
@pytest.mark.usefixtures("reducing_table")
def test_expanded_dy(name: str) -> None:
    x, dy, _ = maps(name)
    corner = (slice(0, 1),) * x.dim()
    check(x, dy[corner].expand_as(x), None, "relu", masked=False, write_g=True)  # from y.sum()
    plane = (..., *(slice(0, 1) for _ in x.shape[2:]))
    check(x, dy[plane].expand_as(x), None, "gelu", masked=False, write_g=False)  # from pooling


@pytest.mark.usefixtures("reducing_table")
def test_a_dy_of_another_layout() -> None:
    planar, last = normal(torch.float32)(2, 5, 5, 7), MAPS["channels_last"](normal(torch.float32, seed=1))
    check(planar, last, last, "relu", masked=True, write_g=True)
    check(last, planar, planar, "relu", masked=True, write_g=True)


@pytest.mark.parametrize("name", ["planar one large plane", "channels_last long"])
@pytest.mark.usefixtures("reducing_table")
def test_a_mean_of_1e4_with_a_deviation_of_1(name: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1e4, std=1.0))
    dy = MAPS[name](normal(torch.float32, seed=1, mean=0.0))
    center = x.mean((2, 3))
    one, zero = torch.ones_like(center), torch.zeros_like(center)
    _, dscale, _ = triton_kernels.plane_affine_reduce(dy, x, center, one, zero, None, None, "identity", False)
    close(dscale, sums(dy.double() * (x.double() - over(center, x))), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.usefixtures("small_table")
def test_lanes_without_values_add_nothing(act: str) -> None:
    x = MAPS["planar"](normal(torch.float32, mean=1e20, std=1e13))  # scale*center would overflow
    dy = MAPS["planar"](normal(torch.float32, seed=1))
    center = x.mean((2, 3))
    scale, zero = torch.full_like(center, 1e20), torch.zeros_like(center)
    _, dscale, dshift = triton_kernels.plane_affine_reduce(dy, x, center, scale, zero, None, None, act, False)
    assert dscale.isfinite().all()
    assert dshift.isfinite().all()


@pytest.mark.parametrize("size", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4), (0, 5)])
def test_empty(size: tuple[int, ...]) -> None:
    x, numbers = torch.zeros(size), torch.zeros(size[:2])
    g, dscale, dshift = triton_kernels.plane_affine_reduce(x, x, numbers, numbers, numbers, None, None, "relu", True)
    assert g.shape == x.shape
    assert torch.equal(dscale, numbers)
    assert torch.equal(dshift, numbers)
