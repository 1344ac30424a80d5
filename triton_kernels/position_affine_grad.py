"""position_affine_grad: the gradient of the feature map, with values per position.

    dx = scale*de + a*(x - center) + b + sum_j outers[j]*rows[j] + weight*h*f'(x - center)      (position_terms.py)

Traffic: 3 units (read dy, x, write dx), +1 to read a residual; values per position are read once a sample, and a few
channels share what they load of them.

Launch: as plane_affine_grad, in tiles of one sample's channels.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch
from .layout import load, load_per_plane, per_plane, store, tile_positions
from .position_terms import Planes, Rows, backward, planes
from .positions import load_per_position, sample_planes, slope_of_kind


@triton.jit
def position_affine_grad_kernel(
    x,
    dy,
    residual,
    dx,
    planes,
    rows,
    a,
    b,
    outers,
    others,
    weight,
    h,
    sizes,
    KIND: tl.constexpr,
    RESTRICT: tl.constexpr,
    ACT: tl.constexpr,
    TILE: tl.constexpr,
):
    COMPUTE: tl.constexpr = planes.center.ptr.dtype.element_ty
    n, c, real, split = sample_planes(sizes, TILE)
    s, inside = tile_positions(split * TILE.positions, sizes, TILE)
    valid = real & inside

    p = Planes(*[load_per_plane(view, n, c, real) if view.ptr is not None else None for view in planes])
    r = Rows(*[load_per_position(row, n, s, inside, sizes, TILE) if row is not None else None for row in rows])
    grad = load(dy, n, c, s, valid, sizes, TILE).to(COMPUTE)
    d = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - p.center
    added = load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE) if residual.ptr is not None else None
    terms = backward(grad, d, p, r, added, RESTRICT, ACT)

    result = p.scale * terms.de
    if a.ptr is not None:
        result = tl.fma(load_per_plane(a, n, c, real), d, result) + load_per_plane(b, n, c, real)
    for j in tl.static_range(len(outers)):
        row = load_per_position(others[j], n, s, inside, sizes, TILE)
        result = tl.fma(load_per_plane(outers[j], n, c, real), row, result)
    if h is not None:
        factor = load_per_plane(weight, n, c, real) * load_per_position(h, n, s, inside, sizes, TILE)
        if KIND == "sum":
            result += factor
        else:
            result = tl.fma(factor, slope_of_kind(d, KIND), result)
    store(dx, result, n, c, s, valid, sizes, TILE)


def position_affine_grad(
    dy: Tensor,
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
    e_offset: Tensor | None,
    e_slope: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    outers: Tensor | None,
    rows: Tensor | None,
    weight: Tensor | None,
    h: Tensor | None,
    kind: str,
    restrict: str,
    act: str,
) -> Tensor:
    """dx = scale*de + a*(x - center) + b + sum_j outers[j]*rows[j] + weight*h*f'(x - center)."""
    dx = torch.empty_like(x)
    if act == "identity":  # z plays no part
        residual = None
    if x.numel() > 0:
        Launch("position_affine_grad", x, dy, residual, dx).run(
            position_affine_grad_kernel,
            planes(center, scale, shift, outer, gain, bias, gate_weight, gate_bias),
            Rows(t, u, e_offset, e_slope),
            per_plane(a),
            per_plane(b),
            () if outers is None else tuple(per_plane(column) for column in outers.unbind(0)),
            () if rows is None else rows.unbind(0),
            per_plane(weight),
            h,
            KIND=kind,
            RESTRICT=restrict,
            ACT=act,
        )
    return dx
