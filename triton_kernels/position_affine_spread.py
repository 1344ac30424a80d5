"""position_affine_spread: the backward pass's sums over channels, at each position.

    du = sum_c gate_weight*da      dt = sum_c outer*de + pool*(x - center)      (position_terms.py); g on request

Traffic: 2 units (read dy, x), +1 to write g, +1 to read a residual; of the results 2/C.

Launch: as position_reduce.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, per_position
from .layout import load, load_per_plane, per_plane, store, tile_channels, zeros
from .position_terms import Planes, Rows, backward, planes
from .positions import add_channels, load_per_position, sample_positions


@triton.jit
def position_affine_spread_kernel(
    x, dy, residual, g, planes, rows, pool, du, dt, sizes, RESTRICT: tl.constexpr, ACT: tl.constexpr, TILE: tl.constexpr
):
    COMPUTE: tl.constexpr = planes.center.ptr.dtype.element_ty
    n, s, inside, split = sample_positions(sizes, TILE)
    begin = split * sizes.chunk
    r = Rows(*[load_per_position(row, n, s, inside, sizes, TILE) if row is not None else None for row in rows])

    sum_du = zeros(TILE, COMPUTE)
    sum_dt = zeros(TILE, COMPUTE)
    for first in range(begin, tl.minimum(begin + sizes.chunk, sizes.C), TILE.planes):
        c, real = tile_channels(first, sizes, TILE)
        valid = real & inside
        p = Planes(*[load_per_plane(view, n, c, real) if view.ptr is not None else None for view in planes])
        grad = load(dy, n, c, s, valid, sizes, TILE).to(COMPUTE)
        d = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - p.center
        added = load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE) if residual.ptr is not None else None
        terms = backward(grad, d, p, r, added, RESTRICT, ACT)
        if g.ptr is not None:
            store(g, terms.g, n, c, s, valid, sizes, TILE)
        # Where no channel is, all its numbers are 0: nothing is added.
        if du is not None:
            sum_du = tl.fma(p.gate_weight, terms.da, sum_du)
        if dt is not None:
            sum_dt = tl.fma(p.outer, terms.de, sum_dt)
            if pool.ptr is not None:
                sum_dt = tl.fma(load_per_plane(pool, n, c, real), d, sum_dt)

    if du is not None:
        add_channels(du, sum_du, split, n, s, inside, sizes, TILE)
    if dt is not None:
        add_channels(dt, sum_dt, split, n, s, inside, sizes, TILE)


def position_affine_spread(
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
    pool: Tensor | None,
    restrict: str,
    act: str,
    write_g: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """g = dy*act'(z) where it is asked for, and the gradients of u and t (N, S), where they are given."""
    g = torch.empty_like(x) if write_g else x.new_empty(0)
    du, dt = (per_position(x, absent=factor is None) for factor in (gate_weight, outer))
    if x.numel() == 0:
        return g, du, dt
    if act == "identity":  # z plays no part
        residual = None
    args = (
        planes(center, scale, shift, outer, gain, bias, gate_weight, gate_bias),
        Rows(t, u, e_offset, e_slope),
        per_plane(pool),
    )
    sums = (None if gate_weight is None else du, None if outer is None else dt)
    launch = Launch("position_affine_spread", x, dy, residual, g if write_g else None)
    launch.sum_up(position_affine_spread_kernel, args, sums, RESTRICT=restrict, ACT=act)
    return g, du, dt
