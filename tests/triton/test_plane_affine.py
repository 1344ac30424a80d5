from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal, per_plane
from .truth import ACTIVATIONS, ROUNDING, close, pack, passes, preactivation

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
MASKED = ["relu", "relu6", "leaky_relu"]


def check(x: Tensor, residual: Tensor | None, act: str, save_mask: bool, *kinds: str) -> None:
    center, scale, shift = per_plane(x, *(kinds or ("full", "full", "full")))
    y, mask = triton_kernels.plane_affine(x, center, scale, shift, residual, act, save_mask)
    assert y.dtype == x.dtype
    assert y.stride() == torch.empty_like(x).stride()
    z = preactivation(x, center, scale, shift, residual)
    close(y, ACTIVATIONS[act](z), ROUNDING[x.dtype], atol=8 * min(ROUNDING[x.dtype], 1e-6))
    if save_mask:
        assert torch.equal(mask, pack(passes(z, act), x))
    else:
        assert mask.shape == (0,)
        assert mask.dtype == torch.uint8


@pytest.mark.parametrize("name", MAPS)
def test_every_map(name: str) -> None:
    check(MAPS[name](normal(torch.float32)), None, "identity", False)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("small_table")
def test_every_map_with_residual_and_mask(name: str) -> None:
    residual = MAPS[name](normal(torch.float32, seed=1))
    check(MAPS[name](normal(torch.float32)), residual, "relu", True)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["planar", "channels_last"])
def test_every_activation_and_type(name: str, dtype: torch.dtype, act: str) -> None:
    residual = MAPS[name](normal(dtype, seed=1))
    check(MAPS[name](normal(dtype)), residual, act, act in MASKED)


@pytest.mark.parametrize("kinds", [("samples", "full", "channels"), ("strided", "samples", "strided")])
@pytest.mark.parametrize("name", ["planar", "channels_last", "2-D"])
@pytest.mark.usefixtures("table")
def test_strides_of_the_numbers_of_planes(name: str, kinds: tuple[str, ...]) -> None:
    check(MAPS[name](normal(torch.float32)), None, "relu", False, *kinds)


@pytest.mark.parametrize("name", ["planar", "channels_last long", "cropped"])
@pytest.mark.usefixtures("table", "wide")
def test_int64_offsets(name: str) -> None:
    residual = MAPS[name](normal(torch.float32, seed=1))
    check(MAPS[name](normal(torch.float32)), residual, "relu6", True)


@pytest.mark.usefixtures("table")
def test_a_residual_of_another_layout() -> None:
    planar, last = normal(torch.float32)(2, 5, 5, 7), MAPS["channels_last"](normal(torch.float32, seed=1))
    check(planar, last, "relu", True)
    check(last, planar, "relu", True)
    check(last, planar[:, :1].expand_as(planar), "silu", False)


def test_a_mean_of_1e4_with_a_deviation_of_1() -> None:
    x = MAPS["planar"](normal(torch.float32, mean=1e4, std=1.0))
    center, scale, shift = (t.float() for t in (x.mean((2, 3)), torch.ones(2, 3), torch.zeros(2, 3)))
    y, _ = triton_kernels.plane_affine(x, center, scale, shift, None, "identity", False)
    assert torch.equal(y, x - center[..., None, None])


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nan_passes(act: str) -> None:
    x = MAPS["planar"](normal(torch.float32))
    x[1, 2, 3, 4] = float("nan")
    y, _ = triton_kernels.plane_affine(x, *per_plane(x, "full", "full", "full"), None, act, False)
    assert torch.equal(y.isnan(), x.isnan())


@pytest.mark.parametrize("act", MASKED)
def test_the_mask_at_nan_and_at_the_corners(act: str) -> None:
    x = torch.tensor([float("nan"), -0.0, 0.0, 6.0, 7.0, -1.0, 1.0, 5.9, float("inf")]).reshape(1, 1, 9)
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    _, mask = triton_kernels.plane_affine(x, zero, one, zero, None, act, True)
    assert torch.equal(mask, pack(passes(x, act), x))


@pytest.mark.parametrize("size", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4), (0, 5)])
def test_empty(size: tuple[int, ...]) -> None:
    x = torch.zeros(size)
    numbers = torch.zeros(size[:2])
    y, mask = triton_kernels.plane_affine(x, numbers, numbers, numbers, x, "relu", True)
    assert y.shape == x.shape
    assert mask.numel() == 0
    assert mask.dim() == 3


def test_inputs_are_left_alone() -> None:
    x, residual = (MAPS["planar"](normal(torch.float32, seed)) for seed in (0, 1))
    numbers = per_plane(x, "full", "full", "full")
    before = [t.clone() for t in (x, residual, *numbers)]
    triton_kernels.plane_affine(x, *numbers, residual, "relu", True)
    assert all(torch.equal(a, b) for a, b in zip(before, (x, residual, *numbers), strict=True))
