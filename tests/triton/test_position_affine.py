"""position_affine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import MAPS, normal
from .position_case import BOTH, DTYPES, EMPTY, RESTRICTIONS, case, check_map, make, run
from .truth import ACTIVATIONS


def check(
    x: Tensor, residual: Tensor | None, options: str = "tu", restrict: str = "sigmoid", act: str = "silu"
) -> None:
    (y,), (expected,) = run("position_affine", x, *case(x, options).forward, residual, restrict, act)
    check_map(y, expected, x, atol=16)


@pytest.mark.parametrize("name", MAPS)
def test_every_map(name: str) -> None:
    check(make(name), make(name, seed=1))


@pytest.mark.parametrize("name", ["planar", "planar many small planes", "channels_last wide", "cropped 5-D", "2-D"])
@pytest.mark.parametrize("options", ["", "t", "u", "tu"])
@pytest.mark.usefixtures("small_table")
def test_every_option(name: str, options: str) -> None:
    check(make(name), None, options, "tanh", "identity")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOTH)
def test_every_type_and_restriction(name: str, dtype: torch.dtype) -> None:
    for restrict in RESTRICTIONS:
        check(make(name, dtype), make(name, dtype, seed=1), "tu", restrict, "silu")


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("name", BOTH)
def test_every_activation(name: str, act: str) -> None:
    check(make(name), make(name, seed=1), "tu", "sigmoid", act)


@pytest.mark.parametrize("name", [*BOTH, "cropped"])
@pytest.mark.usefixtures("table", "wide")
def test_int64_offsets(name: str) -> None:
    check(make(name), make(name, seed=1), act="relu6")


@pytest.mark.usefixtures("table")
def test_a_residual_of_another_layout() -> None:
    planar, last = normal(torch.float32)(2, 5, 5, 7), make("channels_last", seed=1)
    check(planar, last)
    check(last, planar)


@pytest.mark.parametrize("restrict", RESTRICTIONS)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_gate_far_out_and_at_the_corners(restrict: str) -> None:
    u = torch.tensor([-3.0, 3.0, 0.0, -200.0, 200.0, -40.0, 40.0, float("nan")])[None]
    x, one, zero = torch.ones(1, 1, 8), torch.ones(1, 1), torch.zeros(1, 1)
    numbers = (zero, one, zero, None, None, one, zero, one, zero, u)
    (y,), (expected,) = run("position_affine", x, *numbers, None, restrict, "identity")
    check_map(y, expected, x, atol=1)
    assert torch.equal(y.isnan()[0], u.isnan())


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.usefixtures("table")
def test_nan_passes(name: str) -> None:
    x = make(name)
    x[1, 2, 3, 4] = float("nan")
    y = triton_kernels.position_affine(x, *case(x).forward, None, "hsigmoid", "relu")
    assert torch.equal(y.isnan(), x.isnan())


@pytest.mark.parametrize("size", EMPTY)
def test_empty(size: tuple[int, ...]) -> None:
    x = torch.zeros(size)
    assert triton_kernels.position_affine(x, *case(x).forward, None, "sigmoid", "relu").shape == x.shape
