"""position_affine: the forward pass over the feature map, with values per position.

    y = act(gain*e*q + bias + residual),  e = scale*(x - center) + shift + outer*t,  q = R(gate_weight*u + gate_bias)

Traffic: 2 units (read x, write y), +1 for a residual; t and u are read once a sample, and a few channels share what
they load of them.

Launch: as plane_affine, in tiles of one sample's channels.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import activate
from .launch import Launch
from .layout import load, load_per_plane, store, tile_positions
from .position_terms import Planes, Rows, planes, preactivation
from .positions import load_per_position, sample_planes


@triton.jit
def position_affine_kernel(
    x, residual, y, planes, rows, sizes, RESTRICT: tl.constexpr, ACT: tl.constexpr, TILE: tl.constexpr
):
    COMPUTE: tl.constexpr = planes.center.ptr.dtype.element_ty
    n, c, real, split = sample_planes(sizes, TILE)
    s, inside = tile_positions(split * TILE.positions, sizes, TILE)
    valid = real & inside

    p = Planes(*[load_per_plane(view, n, c, real) if view.ptr is not None else None for view in planes])
    d = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - p.center
    r = Rows(*[load_per_position(row, n, s, inside, sizes, TILE) if row is not None else None for row in rows])
    z = preactivation(d, p, r, RESTRICT)
    if residual.ptr is not None:
        z += load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE)
    store(y, activate(z, ACT), n, c, s, valid, sizes, TILE)


def position_affine(
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    restrict: str,
    act: str,
) -> Tensor:
    """act(gain*e*q + bias + residual)."""
    y = torch.empty_like(x)
    coefficients = planes(center, scale, shift, outer, gain, bias, gate_weight, gate_bias)
    _write(y, x, coefficients, Rows(t, u, None, None), residual, restrict, act)
    return y


def position_affine_inplace(
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    restrict: str,
    act: str,
) -> None:
    """y over x: no program reads what another writes."""
    coefficients = planes(center, scale, shift, outer, gain, bias, gate_weight, gate_bias)
    _write(x, x, coefficients, Rows(t, u, None, None), residual, restrict, act)


def _write(
    y: Tensor, x: Tensor, coefficients: Planes, rows: Rows, residual: Tensor | None, restrict: str, act: str
) -> None:
    if x.numel() > 0:
        Launch("position_affine", x, residual, y).run(
            position_affine_kernel, coefficients, rows, RESTRICT=restrict, ACT=act
        )
