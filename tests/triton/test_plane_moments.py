from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal
from .truth import SUMS, close

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def truth(x: Tensor) -> tuple[Tensor, Tensor]:
    planes = x.double().reshape(*x.shape[:2], -1)
    mean = planes.mean(-1)
    return mean, (planes - mean[..., None]).square().mean(-1)


def check(x: Tensor) -> None:
    mean, var = triton_kernels.plane_moments(x)
    assert mean.shape == var.shape == x.shape[:2]
    assert mean.dtype == torch.float64
    assert var.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    for actual, expected in zip((mean, var), truth(x), strict=True):
        close(actual, expected, SUMS[x.dtype])


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.usefixtures("table")
def test_every_map(name: str) -> None:
    check(MAPS[name](normal(torch.float32)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["planar many small planes", "channels_last", "cropped"])
@pytest.mark.usefixtures("small_table")
def test_every_type(name: str, dtype: torch.dtype) -> None:
    check(MAPS[name](normal(dtype)))


@pytest.mark.parametrize("name", ["planar", "channels_last long", "cropped"])
@pytest.mark.usefixtures("reducing_table", "wide")
def test_int64_offsets(name: str) -> None:
    check(MAPS[name](normal(torch.float32)))


@pytest.mark.parametrize("name", ["planar one large plane", "channels_last long", "planar many small planes"])
@pytest.mark.usefixtures("reducing_table")
def test_a_mean_of_1e4_with_a_deviation_of_1(name: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1e4, std=1.0))
    mean, var = triton_kernels.plane_moments(x)
    exact_mean, exact_var = truth(x)
    close(mean, exact_mean, rtol=0, atol=1e-6)  # where a unit in float32's last place is 1e-3
    close(var, exact_var, rtol=1e-5, atol=0)


@pytest.mark.usefixtures("reducing_table")
@pytest.mark.parametrize("name", ["planar one large plane", "channels_last long", "S=1"])
def test_a_constant_plane_has_no_variance(name: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1234.567, std=0.0))
    mean, var = triton_kernels.plane_moments(x)
    assert torch.equal(mean, x.flatten(2)[..., 0].double())
    assert torch.equal(var, torch.zeros_like(var))


@pytest.mark.usefixtures("reducing_table")
def test_lanes_without_values_add_nothing() -> None:
    x = MAPS["planar"](normal(torch.float32, mean=1e25, std=1e18))  # the mean's square would overflow
    mean, var = triton_kernels.plane_moments(x)
    exact_mean, exact_var = truth(x)
    close(mean, exact_mean, rtol=1e-6, atol=0)
    close(var, exact_var, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["planar", "channels_last"])
@pytest.mark.usefixtures("reducing_table")
def test_nan_stays_in_its_plane(name: str) -> None:
    x = MAPS[name](normal(torch.float32))
    x[1, 2, 3, 4] = float("nan")
    mean, var = triton_kernels.plane_moments(x)
    hit = torch.zeros_like(mean, dtype=torch.bool)
    hit[1, 2] = True
    assert torch.equal(mean.isnan(), hit)
    assert torch.equal(var.isnan(), hit)


@pytest.mark.parametrize("size", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4), (0, 5)])
def test_empty(size: tuple[int, ...]) -> None:
    mean, var = triton_kernels.plane_moments(torch.zeros(size))
    assert mean.shape == var.shape == size[:2]
