from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal, per_plane
from .truth import ACTIVATIONS, ROUNDING, close, gradient, over, pack, passes, preactivation

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
MASKED = ["relu", "relu6", "leaky_relu"]


def check(x: Tensor, dy: Tensor, residual: Tensor | None, act: str, masked: bool = False, terms: str = "ab") -> None:
    center, scale, shift, a, b = per_plane(x, "full", "strided", "samples", "full", "channels")
    z = preactivation(x, center, scale, shift, residual)
    mask = pack(passes(z, act), x) if masked else None
    given = None if masked else residual
    exact = over(scale, x) * gradient(dy, z, act)
    if "a" in terms:
        exact = exact + over(a, x) * (x.double() - over(center, x))
    if "b" in terms:
        exact = exact + over(b, x)
    dx = triton_kernels.plane_affine_grad(
        dy, x, center, scale, shift, given, mask, a if "a" in terms else None, b if "b" in terms else None, act
    )
    assert dx.dtype == x.dtype
    assert dx.stride() == torch.empty_like(x).stride()
    close(dx, exact, ROUNDING[x.dtype], atol=8 * min(ROUNDING[x.dtype], 1e-6))


def maps(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    x, dy, residual = (MAPS[name](normal(dtype, seed)) for seed in (0, 1, 2))
    return x, dy, residual


@pytest.mark.parametrize("name", MAPS)
def test_every_map(name: str) -> None:
    check(*maps(name), "silu")


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("small_table")
def test_every_map_with_a_mask(name: str) -> None:
    check(*maps(name), "relu", masked=True)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["planar", "channels_last"])
def test_every_activation_and_type(name: str, dtype: torch.dtype, act: str) -> None:
    check(*maps(name, dtype), act)


@pytest.mark.parametrize("act", MASKED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["planar", "channels_last"])
def test_every_mask_and_type(name: str, dtype: torch.dtype, act: str) -> None:
    check(*maps(name, dtype), act, masked=True)


@pytest.mark.parametrize("terms", ["", "a", "b", "ab"])
@pytest.mark.parametrize("act", ["identity", "relu", "gelu"])
@pytest.mark.parametrize("name", ["planar", "channels_last"])
def test_without_a_and_b(name: str, act: str, terms: str) -> None:
    x, dy, _ = maps(name)
    check(x, dy, None, act, terms=terms)
    check(x, dy, None, act, masked=act == "relu", terms=terms)


@pytest.mark.parametrize("act", ["identity", "relu"])
def test_x_is_not_read_where_it_plays_no_part(act: str) -> None:
    x, g, _ = maps("planar")
    center, scale, shift = per_plane(x, "full", "full", "full")
    mask = torch.full((2, 3, 5), 255, dtype=torch.uint8, device=x.device) if act == "relu" else None
    dx = triton_kernels.plane_affine_grad(g, x * float("nan"), center, scale, shift, None, mask, None, None, act)
    assert torch.equal(dx, g * scale[..., None, None])


@pytest.mark.parametrize("name", ["planar", "channels_last long", "cropped"])
@pytest.mark.usefixtures("table", "wide")
def test_int64_offsets(name: str) -> None:
    check(*maps(name), "relu6", masked=True)


@pytest.mark.parametrize("name", ["planar", "channels_last", "cropped", "2-D"])
@pytest.mark.usefixtures("table")
def test_expanded_dy(name: str) -> None:
    x, dy, _ = maps(name)
    corner = (slice(0, 1),) * x.dim()
    check(x, dy[corner].expand_as(x), None, "relu")
    plane = (..., *(slice(0, 1) for _ in x.shape[2:]))
    check(x, dy[plane].expand_as(x), None, "gelu")


@pytest.mark.usefixtures("table")
def test_a_dy_of_another_layout() -> None:
    planar, last = normal(torch.float32)(2, 5, 5, 7), MAPS["channels_last"](normal(torch.float32, seed=1))
    check(planar, last, last, "relu", masked=True)
    check(last, planar, planar, "silu")


@pytest.mark.parametrize("size", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4), (0, 5)])
def test_empty(size: tuple[int, ...]) -> None:
    x, numbers = torch.zeros(size), torch.zeros(size[:2])
    dx = triton_kernels.plane_affine_grad(x, x, numbers, numbers, numbers, None, None, numbers, numbers, "relu")
    assert dx.shape == x.shape
