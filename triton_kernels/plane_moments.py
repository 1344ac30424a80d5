"""plane_moments: mean and biased variance of every plane.

    mean = 1/S sum x        var = 1/S sum (x - mean)²

Traffic: 1 unit (read x).

Launch: a program walks over its planes' positions tile by tile; every lane of the tile keeps a mean and a
centred sum of squares (M2) of the values it has seen. At the end the lanes of a plane are merged as (count,
mean, M2). Few large planes are split over programs; a second kernel merges their partials the same way, in
fixed order. All means are kept less the plane's first value, or each would be rounded to its own last place: at
1e4 that costs a deviation of 1 three digits. Only the plane's mean is in full, in float64.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, compute_dtype
from .layout import load, tile_planes, tile_positions, zeros
from .merging import merge_moments, merge_moments_kernel


@triton.jit
def plane_moments_kernel(x, mean, second, pivots, sizes, TILE: tl.constexpr):
    """Mean and variance; with `pivots`, which takes the planes' first values, a share's mean less those, and M2."""
    COMPUTE: tl.constexpr = second.dtype.element_ty
    n, c, _, real, split = tile_planes(sizes, TILE)
    begin = split * sizes.chunk
    stop = begin + sizes.chunk
    end = tl.minimum(stop, sizes.S)

    m = zeros(TILE, COMPUTE)
    m2 = zeros(TILE, COMPUTE)
    seen = tl.full((), 0, COMPUTE)
    pivot = load(x, n, c, 0, real, sizes, TILE).to(COMPUTE)
    s, inside = tile_positions(begin, sizes, TILE)
    value = load(x, n, c, s, real & inside, sizes, TILE)
    for first in range(begin, end, TILE.positions):
        # The next tile is on its way while this one is worked on.
        s, inside_next = tile_positions(first + TILE.positions, sizes, TILE)
        following = load(x, n, c, s, real & inside_next & (s < stop), sizes, TILE)
        value = value.to(COMPUTE) - pivot
        # A lane misses none but its last tile, so all lanes that see this one have seen as many.
        seen += 1
        step = tl.where(inside, value - m, 0.0)
        m = tl.fma(step, 1 / seen, m)
        m2 = tl.fma(step, value - m, m2)
        value, inside = following, inside_next

    first_seen, _ = tile_positions(begin, sizes, TILE)
    count = (tl.maximum(end - first_seen + (TILE.positions - 1), 0) // TILE.positions).to(COMPUTE)
    total = (end - begin).to(COMPUTE)
    centre, m2 = merge_moments(count, m, m2, total, AXIS=0 if TILE.channels_last else 1)
    plane = split * sizes.planes + n * sizes.C + c
    if pivots is not None:
        tl.store(pivots + plane, pivot.to(tl.float64), mask=real & (plane < sizes.planes))  # the first program
        tl.store(mean + plane, centre, mask=real)
        tl.store(second + plane, m2, mask=real)
    else:
        tl.store(mean + plane, pivot.to(tl.float64) + centre.to(tl.float64), mask=real)
        tl.store(second + plane, m2 / total, mask=real)


def plane_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (float64) and biased variance (compute type) of every plane."""
    N, C = x.shape[:2]
    dtype = compute_dtype(x)
    if x.numel() == 0:
        return x.new_zeros((N, C), dtype=torch.float64), x.new_zeros((N, C), dtype=dtype)
    mean = torch.empty((N, C), dtype=torch.float64, device=x.device)
    var = torch.empty((N, C), dtype=dtype, device=x.device)
    launch = Launch("plane_moments", x)
    splits = launch.plan.sizes.splits
    if splits == 1:
        launch.run(plane_moments_kernel, mean, var, None)
    else:
        partials = [torch.empty((splits, N * C), dtype=dtype, device=x.device) for _ in range(2)]
        launch.run(plane_moments_kernel, *partials, mean)
        launch.merge(merge_moments_kernel, *partials, mean, var, launch.plan.sizes.S, width=N * C)
    return mean, var
