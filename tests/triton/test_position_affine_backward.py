"""position_affine_reduce, position_affine_spread, position_affine_grad."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal, per_plane
from .position_case import BIG, BOTH, DTYPES, EMPTY, KINDS, RESTRICTIONS, case, check_map, check_sums, make, rows, run
from .truth import ACTIVATIONS

OPTIONS = ("", "t", "u", "tu", "te", "ue", "tue")
SOME = ("planar", "planar many small planes", "channels_last wide", "cropped 5-D", "2-D")


def common(dy: Tensor, x: Tensor, residual: Tensor | None, options: str) -> tuple[Any, ...]:
    given = case(x, options)
    return dy, x, *given.forward, residual, *given.e


def check_g(g: Tensor, expected: Tensor, x: Tensor, write_g: bool) -> None:
    if write_g:
        check_map(g, expected, x)
    else:
        assert g.shape == (0,)
        assert g.dtype == x.dtype


def check_reduce(
    dy: Tensor, x: Tensor, residual: Tensor | None, options: str, restrict: str, act: str, write_g: bool
) -> None:
    arguments = common(dy, x, residual, options)
    (g, sums), (exact_g, exact) = run("position_affine_reduce", *arguments, restrict, act, write_g)
    check_g(g, exact_g, x, write_g)
    check_sums(sums, exact, x, 16 * x.shape[2:].numel())  # terms of about 4
    for absent, number in (("t", 2), ("u", 5), ("u", 6)):
        assert absent in options or torch.equal(sums[number], torch.zeros_like(sums[number]))


def check_spread(
    dy: Tensor, x: Tensor, residual: Tensor | None, options: str, restrict: str, act: str, write_g: bool
) -> None:
    pool = per_plane(x, "strided", seed=8)[0] if "e" in options else None
    arguments = (*common(dy, x, residual, options), pool)
    found, expected = run("position_affine_spread", *arguments, restrict, act, write_g)
    check_g(found[0], expected[0], x, write_g)
    for actual, exact in zip(found[1:], expected[1:], strict=True):
        check_sums(actual, exact, x, 16 * x.shape[1])


def check_grad(
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    options: str,
    restrict: str,
    act: str,
    count: int = 3,
    kind: str | None = "abs",
) -> None:
    """count: outers and rows. kind: None for no weight and h."""
    a, b, weight = per_plane(x, "channels", "full", "strided", seed=7)
    h, *others = rows(x, 1 + count, seed=21)
    outers = None if count == 0 else torch.stack(per_plane(x, *["full"] * count, seed=6)).flip(0)
    arguments = (
        *common(dy, x, residual, options),
        *((a, b) if "e" in options else (None, None)),
        outers,
        None if count == 0 else torch.stack(others),
        *((None, None) if kind is None else (weight, h)),
    )
    (dx,), (expected,) = run("position_affine_grad", *arguments, kind or "sum", restrict, act)
    check_map(dx, expected, x, atol=64)


def maps(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    x, dy, residual = (make(name, dtype, seed) for seed in (0, 1, 2))
    return dy, x, residual


@pytest.mark.parametrize("name", MAPS)
def test_every_map(name: str) -> None:
    given = maps(name)
    check_reduce(*given, "te", "sigmoid", "relu", True)
    check_spread(*given, "tu", "sigmoid", "relu", True)
    check_grad(*given, "u", "sigmoid", "relu", count=1, kind=None)


@pytest.mark.parametrize("name", [*BIG, "channels_last wide", "cropped"])
@pytest.mark.usefixtures("reducing_table")
def test_every_table(name: str) -> None:
    check_reduce(*maps(name), "tue", "sigmoid", "silu", True)
    check_spread(*maps(name), "tue", "sigmoid", "silu", True)


@pytest.mark.parametrize("name", [*BIG, "channels_last wide", "cropped"])
@pytest.mark.usefixtures("small_table")
def test_small_tiles(name: str) -> None:
    check_grad(*maps(name), "tue", "sigmoid", "silu")


@pytest.mark.parametrize(("options", "name"), list(zip(OPTIONS, SOME + SOME[:2], strict=True)))
@pytest.mark.parametrize("residual", [False, True])
def test_every_option(name: str, options: str, residual: bool) -> None:
    dy, x, added = maps(name)
    given = (dy, x, added if residual else None)
    check_reduce(*given, options, "sigmoid", "gelu", False)
    check_spread(*given, options, "sigmoid", "gelu", not residual)
    check_grad(*given, options, "sigmoid", "gelu", count=len(options), kind=None if residual else "square")


@pytest.mark.parametrize("name", BOTH)
def test_the_second_pass_reads_g(name: str) -> None:
    dy, x, residual = maps(name)
    for options in ("t", "ue"):
        check_reduce(dy, x, None, options, "sigmoid", "identity", False)
        check_spread(dy, x, residual, options, "sigmoid", "identity", False)
        check_grad(dy, x, residual, options, "sigmoid", "identity", count=2, kind="sum")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOTH)
def test_every_type_restriction_and_kind(name: str, dtype: torch.dtype) -> None:
    given = maps(name, dtype)
    for restrict, kind in zip(RESTRICTIONS, KINDS, strict=True):
        check_reduce(*given, "tue", restrict, "silu", True)
        check_spread(*given, "tue", restrict, "silu", True)
        check_grad(*given, "tue", restrict, "silu", count=1, kind=kind)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_every_activation(act: str) -> None:
    for name in BOTH:
        given = maps(name)
        check_reduce(*given, "tue", "sigmoid", act, True)
        check_spread(*given, "tue", "sigmoid", act, True)
        check_grad(*given, "tue", "sigmoid", act)


@pytest.mark.parametrize("name", [*BOTH, "cropped"])
@pytest.mark.usefixtures("small_table", "wide")
def test_int64_offsets(name: str) -> None:
    given = maps(name)
    check_reduce(*given, "tue", "sigmoid", "relu", True)
    check_spread(*given, "tue", "sigmoid", "relu", True)
    check_grad(*given, "tue", "sigmoid", "relu")


@pytest.mark.parametrize("name", [*BOTH, "2-D"])
def test_expanded_dy(name: str) -> None:
    dy, x, _ = maps(name)
    dy = dy[(slice(0, 1),) * x.dim()].expand_as(x)  # from y.sum()
    check_reduce(dy, x, None, "tue", "sigmoid", "relu", True)
    check_spread(dy, x, None, "tue", "sigmoid", "relu", True)
    check_grad(dy, x, None, "tue", "sigmoid", "relu")


def test_a_dy_of_another_layout() -> None:
    planar, last = normal(torch.float32)(2, 5, 5, 7), make("channels_last", seed=1)
    for dy, x in ((last, planar), (planar, last)):
        check_reduce(dy, x, dy, "tue", "sigmoid", "silu", True)
        check_spread(dy, x, dy, "tue", "sigmoid", "silu", True)
        check_grad(dy, x, dy, "tue", "sigmoid", "silu")


@pytest.mark.usefixtures("small_table")
def test_the_corners_of_a_hard_gate() -> None:
    u = torch.tensor([-3.0, 3.0, 0.0, -4.0, 4.0, 2.5, -2.5, float("nan")])[None]
    x, one, zero = torch.ones(1, 1, 8), torch.ones(1, 1), torch.zeros(1, 1)
    numbers = (zero, one, zero, None, None, one, zero, one, zero, u, None, None, None)
    (_, du, _), (_, expected, _) = run("position_affine_spread", x, x, *numbers, None, "hsigmoid", "identity", False)
    check_sums(du, expected, x, 1)
    assert expected[0, :2].ne(0).all()


@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("act", ["identity", "gelu"])
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered")  # in lanes beyond the last position
@pytest.mark.usefixtures("small_table")
def test_lanes_without_values_add_nothing(name: str, act: str) -> None:
    x = MAPS[name](normal(torch.float32, mean=1e20, std=1e13))  # scale*center would overflow
    center, (t, u) = x.mean((2, 3)), rows(x, 2)
    big, one, zero = torch.full_like(center, 1e20), torch.ones_like(center), torch.zeros_like(center)
    numbers = (center, big, zero, one, t, one, zero, one, zero, u, None, t, u * 0)
    dy = make(name, seed=1) * 1e-20
    _, sums = triton_kernels.position_affine_reduce(dy, x, *numbers, "sigmoid", act, False)
    _, *found = triton_kernels.position_affine_spread(dy, x, *numbers, None, "sigmoid", act, False)
    assert all(t.isfinite().all() for t in (sums, *found))


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("reducing_table")
def test_nan_stays_where_it_is(name: str) -> None:
    dy, x, _ = maps(name)
    dy[1, 2, 3, 4] = float("nan")
    given = common(dy, x, None, "tu")
    _, sums = triton_kernels.position_affine_reduce(*given, "sigmoid", "silu", False)
    in_plane = torch.zeros(x.shape[:2], dtype=torch.bool)
    in_plane[1, 2] = True
    assert torch.equal(sums.isnan(), in_plane.expand(7, -1, -1))
    _, *found = triton_kernels.position_affine_spread(*given, None, "sigmoid", "silu", False)
    at_position = torch.zeros(2, x.shape[2:].numel(), dtype=torch.bool)
    at_position[1, 3 * x.shape[3] + 4] = True
    assert all(torch.equal(t.isnan(), at_position) for t in found)


@pytest.mark.parametrize("size", EMPTY)
def test_empty(size: tuple[int, ...]) -> None:
    x, numbers = torch.zeros(size), torch.zeros(size[:2])
    given = common(x, x, None, "tue")
    g, sums = triton_kernels.position_affine_reduce(*given, "sigmoid", "relu", True)
    assert g.shape == x.shape
    assert torch.equal(sums, torch.zeros(7, *size[:2]))
    g, du, dt = triton_kernels.position_affine_spread(*given, numbers, "sigmoid", "relu", True)
    assert g.shape == x.shape
    assert torch.equal(du, torch.zeros(size[0], x.shape[2:].numel()))
    assert torch.equal(dt, du)
    nothing = (None,) * 6
    assert triton_kernels.position_affine_grad(*given, *nothing, "sum", "sigmoid", "relu").shape == x.shape
