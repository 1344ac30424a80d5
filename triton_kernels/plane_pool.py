"""plane_pool: sums over a plane, weighted by position.

    pooled[n,c] = sum_s q*f(x - center)      f = d, |d| or d²
    slope[n,c]  = sum_s q*f'(x - center)     f' = sign(d) or 2d; not for f = d

Traffic: 1 unit (read x); q is read once a sample, and a few channels share what they load of it.

Launch: as plane_affine_reduce, in tiles of one sample's channels.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, compute_dtype
from .layout import load, load_per_plane, per_plane, tile_positions, zeros
from .positions import add_positions, load_per_position, of_kind, sample_planes, slope_of_kind


@triton.jit
def plane_pool_kernel(x, center, q, pooled, slope, sizes, KIND: tl.constexpr, TILE: tl.constexpr):
    COMPUTE: tl.constexpr = center.ptr.dtype.element_ty
    n, c, real, split = sample_planes(sizes, TILE)
    begin = split * sizes.chunk
    pivot = load_per_plane(center, n, c, real)

    sum_f = zeros(TILE, COMPUTE)
    sum_slope = zeros(TILE, COMPUTE)
    for first in range(begin, tl.minimum(begin + sizes.chunk, sizes.S), TILE.positions):
        s, inside = tile_positions(first, sizes, TILE)
        valid = real & inside
        weight = load_per_position(q, n, s, inside, sizes, TILE)  # 0 where nothing is
        d = tl.where(valid, load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - pivot, 0.0)
        sum_f = tl.fma(weight, of_kind(d, KIND), sum_f)
        if slope is not None:
            sum_slope = tl.fma(weight, slope_of_kind(d, KIND), sum_slope)

    add_positions(pooled, sum_f, split, n, c, real, sizes, TILE)
    if slope is not None:
        add_positions(slope, sum_slope, split, n, c, real, sizes, TILE)


def plane_pool(x: Tensor, center: Tensor, q: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Sums over positions of q*f(x - center) and, except for f = d, of q*f'(x - center) (N, C)."""
    shape = x.shape[:2]
    make = torch.zeros if x.numel() == 0 else torch.empty
    dtype = compute_dtype(x)
    pooled = make(shape, dtype=dtype, device=x.device)
    slope = make((0,) if kind == "sum" else shape, dtype=dtype, device=x.device)
    if x.numel() > 0:
        sums = (pooled, None if kind == "sum" else slope)
        Launch("plane_pool", x).sum_up(plane_pool_kernel, (per_plane(center), q), sums, KIND=kind)
    return pooled, slope
