"""position_reduce, plane_pool, position_moments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal, per_plane
from .position_case import BIG, BOTH, DTYPES, EMPTY, KINDS, case, check_sums, make, rows, run


def check_reduce(x: Tensor, kind: str) -> None:
    (t,), (expected,) = run("position_reduce", x, *per_plane(x, "strided", "samples"), kind)
    check_sums(t, expected, x, x.shape[1])


def check_pool(x: Tensor, kind: str) -> None:
    found, expected = run("plane_pool", x, *per_plane(x, "strided"), *rows(x, 1), kind)
    for actual, exact in zip(found, expected, strict=True):
        check_sums(actual, exact, x, x.shape[2:].numel())
    assert found[1].shape == ((0,) if kind == "sum" else x.shape[:2])


def check_moments(x: Tensor, options: str) -> None:
    found, expected = run("position_moments", x, *case(x, options).forward[:5])
    for actual, exact in zip(found, expected, strict=True):
        check_sums(actual, exact, x, 4)


@pytest.mark.parametrize("name", MAPS)
def test_every_map(name: str) -> None:
    x = make(name)
    check_reduce(x, "abs")
    check_pool(x, "abs")
    check_moments(x, "t")


@pytest.mark.parametrize("name", [*BIG, "planar many small planes", "channels_last wide", "cropped 5-D", "2-D"])
@pytest.mark.usefixtures("small_table")
def test_small_tiles(name: str) -> None:
    x = make(name)
    check_reduce(x, "square")
    check_pool(x, "square")
    check_moments(x, "")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("small_table")
def test_every_type(name: str, dtype: torch.dtype) -> None:
    x = make(name, dtype)
    check_reduce(x, "abs")
    check_pool(x, "abs")
    check_moments(x, "t")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("reducing_table")
def test_every_kind(name: str, kind: str) -> None:
    check_reduce(make(name), kind)
    check_pool(make(name), kind)


@pytest.mark.parametrize("name", [*BOTH, "cropped"])
@pytest.mark.usefixtures("small_table", "wide")
def test_int64_offsets(name: str) -> None:
    x = make(name)
    check_reduce(x, "sum")
    check_pool(x, "abs")
    check_moments(x, "t")


@pytest.mark.parametrize("name", ["planar many small planes", "channels_last wide", "2-D"])
@pytest.mark.usefixtures("reducing_table")
def test_moments_around_a_mean_of_1e4(name: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1e4, std=1.0))
    zero, one = torch.zeros(x.shape[:2]), torch.ones(x.shape[:2])
    (mean, var), (exact_mean, exact_var) = run("position_moments", x, zero, one, zero, None, None)
    torch.testing.assert_close(mean.double(), exact_mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(var.double(), exact_var, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["planar many small planes", "channels_last wide", "planar C=1", "2-D transposed"])
@pytest.mark.usefixtures("reducing_table")
def test_what_is_the_same_in_all_channels_has_no_variance(name: str) -> None:
    x = MAPS[name](normal(torch.float32))[:, :1].expand_as(make(name)).contiguous()
    numbers = per_plane(x, "channels", "channels", "channels", "channels")
    mean, var = triton_kernels.position_moments(x, *numbers, *rows(x, 1))
    assert torch.equal(var, torch.zeros_like(var))
    assert mean.isfinite().all()


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("reducing_table")
def test_a_pool_around_a_center_of_1e4(name: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1e4, std=1.0))
    found, expected = run("plane_pool", x, x.mean((2, 3)), *rows(x, 1), "square")
    for actual, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(actual.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", BIG)
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.usefixtures("small_table")
def test_lanes_without_values_add_nothing(name: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1e25, std=1e18))  # the center's square would overflow
    center, one, zero = x.mean((2, 3)), torch.ones(x.shape[:2]), torch.zeros(x.shape[:2])
    t = triton_kernels.position_reduce(x, center, one * 1e-18, "square")
    pooled, slope = triton_kernels.plane_pool(x, center, rows(x, 1)[0] * 1e-18, "square")
    mean, var = triton_kernels.position_moments(x, center, one, zero, None, None)
    assert all(found.isfinite().all() for found in (t, pooled, slope, mean, var))


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("reducing_table")
def test_nan_stays_where_it_is(name: str) -> None:
    x = make(name)
    x[1, 2, 3, 4] = float("nan")
    center, weight = per_plane(x, "full", "full")
    s = 3 * x.shape[3] + 4
    at_position = torch.zeros(2, x.shape[2:].numel(), dtype=torch.bool)
    at_position[1, s] = True
    in_plane = torch.zeros(x.shape[:2], dtype=torch.bool)
    in_plane[1, 2] = True
    for kind in KINDS:
        assert torch.equal(triton_kernels.position_reduce(x, center, weight, kind).isnan(), at_position)
        pooled, slope = triton_kernels.plane_pool(x, center, *rows(x, 1), kind)
        assert torch.equal(pooled.isnan(), in_plane)
        assert kind == "sum" or torch.equal(slope.isnan(), in_plane)
    for found in triton_kernels.position_moments(x, center, weight, center, None, None):
        assert torch.equal(found.isnan(), at_position)


def test_the_slope_of_abs_at_zero() -> None:
    x, one = torch.zeros(1, 2, 8), torch.ones(1, 2)
    _, slope = triton_kernels.plane_pool(x, torch.zeros(1, 2), torch.ones(1, 8), "abs")
    assert torch.equal(slope, torch.zeros(1, 2))
    _, slope = triton_kernels.plane_pool(x, one, torch.ones(1, 8), "abs")
    assert torch.equal(slope, -8 * one)


@pytest.mark.parametrize("size", EMPTY)
def test_empty(size: tuple[int, ...]) -> None:
    x, numbers = torch.zeros(size), torch.zeros(size[:2])
    nothing = torch.zeros(size[0], x.shape[2:].numel())
    assert torch.equal(triton_kernels.position_reduce(x, numbers, numbers, "abs"), nothing)
    assert all(torch.equal(t, numbers) for t in triton_kernels.plane_pool(x, numbers, nothing, "abs"))
    for found in triton_kernels.position_moments(x, numbers, numbers, numbers, numbers, nothing):
        assert found.shape == nothing.shape
