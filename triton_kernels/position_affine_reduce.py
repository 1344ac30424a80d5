"""position_affine_reduce: the backward pass's sums over positions, with values per position.

    of de, de*(x - center), de*t, g*e*q, g, da, da*u      (position_terms.py); g is written on request

Traffic: 2 units (read dy, x), +1 to write g, +1 to read a residual.

Launch: as plane_affine_reduce, in tiles of one sample's channels. What is absent is not summed: its sums are 0.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, compute_dtype
from .layout import load, load_per_plane, store, tile_positions
from .position_terms import Planes, Rows, backward, planes
from .positions import add_positions, fold, folded_zeros, load_per_position, sample_planes


@triton.jit
def position_affine_reduce_kernel(
    x, dy, residual, g, planes, rows, sums, sizes, RESTRICT: tl.constexpr, ACT: tl.constexpr, TILE: tl.constexpr
):
    COMPUTE: tl.constexpr = planes.center.ptr.dtype.element_ty
    n, c, real, split = sample_planes(sizes, TILE)
    begin = split * sizes.chunk
    p = Planes(*[load_per_plane(view, n, c, real) if view.ptr is not None else None for view in planes])

    sum_de = folded_zeros(TILE, COMPUTE)
    sum_ded = folded_zeros(TILE, COMPUTE)
    sum_det = folded_zeros(TILE, COMPUTE)
    sum_geq = folded_zeros(TILE, COMPUTE)
    sum_g = folded_zeros(TILE, COMPUTE)
    sum_da = folded_zeros(TILE, COMPUTE)
    sum_dau = folded_zeros(TILE, COMPUTE)
    for first in range(begin, tl.minimum(begin + sizes.chunk, sizes.S), TILE.positions):
        s, inside = tile_positions(first, sizes, TILE)
        valid = real & inside
        r = Rows(*[load_per_position(row, n, s, inside, sizes, TILE) if row is not None else None for row in rows])
        grad = load(dy, n, c, s, valid, sizes, TILE).to(COMPUTE)
        d = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - p.center
        d = tl.where(valid, d, 0.0)  # and dy, t, u, e_offset, e_slope are 0 there: nothing is added
        added = load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE) if residual.ptr is not None else None
        terms = backward(grad, d, p, r, added, RESTRICT, ACT)
        if g.ptr is not None:
            store(g, terms.g, n, c, s, valid, sizes, TILE)
        sum_de += fold(terms.de, TILE)
        sum_ded += fold(terms.de * d, TILE)
        sum_geq += fold(terms.geq, TILE)
        sum_g += fold(terms.g, TILE)
        if r.t is not None:
            sum_det += fold(terms.de * r.t, TILE)
        if r.u is not None:
            sum_da += fold(terms.da, TILE)
            sum_dau += fold(terms.da * r.u, TILE)

    first = split * 7
    add_positions(sums, sum_de, first, n, c, real, sizes, TILE)
    add_positions(sums, sum_ded, first + 1, n, c, real, sizes, TILE)
    add_positions(sums, sum_det, first + 2, n, c, real, sizes, TILE)
    add_positions(sums, sum_geq, first + 3, n, c, real, sizes, TILE)
    add_positions(sums, sum_g, first + 4, n, c, real, sizes, TILE)
    add_positions(sums, sum_da, first + 5, n, c, real, sizes, TILE)
    add_positions(sums, sum_dau, first + 6, n, c, real, sizes, TILE)


def position_affine_reduce(
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
    restrict: str,
    act: str,
    write_g: bool,
) -> tuple[Tensor, Tensor]:
    """g = dy*act'(z) where it is asked for, and seven sums over each plane (7, N, C)."""
    g = torch.empty_like(x) if write_g else x.new_empty(0)
    shape, dtype = (7, *x.shape[:2]), compute_dtype(x)
    if x.numel() == 0:
        return g, x.new_zeros(shape, dtype=dtype)
    if act == "identity":  # z plays no part
        residual = None
    sums = torch.empty(shape, dtype=dtype, device=x.device)
    args = (
        planes(center, scale, shift, outer, gain, bias, gate_weight, gate_bias),
        Rows(t, u, e_offset, e_slope),
    )
    launch = Launch("position_affine_reduce", x, dy, residual, g if write_g else None)
    launch.sum_up(position_affine_reduce_kernel, args, (sums,), RESTRICT=restrict, ACT=act)
    return g, sums
