"""position_moments: mean and biased variance over channels, at each position.

    of e = scale*(x - center) + shift + outer*t

Traffic: 1 unit (read x); of the results 2/C.

Launch: as position_reduce. Every lane keeps a mean and a centred sum of squares (M2) of the channels it has seen; at
the end, and in the second kernel where channels are split, they are merged as (count, mean, M2). All are kept less the
first channel: what is the same in all channels has no variance.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, per_position
from .layout import load, load_per_plane, per_plane, tile_channels, zeros
from .merging import merge_moments, merge_moments_kernel
from .position_terms import standardized
from .positions import load_per_position, sample_positions, store_per_position


@triton.jit
def standardized_tile(x, center, scale, shift, outer, t, n, c, s, real, inside, sizes, TILE: tl.constexpr):
    COMPUTE: tl.constexpr = center.ptr.dtype.element_ty
    d = load(x, n, c, s, real & inside, sizes, TILE).to(COMPUTE) - load_per_plane(center, n, c, real)
    factor = load_per_plane(scale, n, c, real)
    multiple = load_per_plane(outer, n, c, real) if outer.ptr is not None else None
    return standardized(d, factor, load_per_plane(shift, n, c, real), multiple, t)


@triton.jit
def position_moments_kernel(x, center, scale, shift, outer, rows, mean, second, pivots, sizes, TILE: tl.constexpr):
    """Mean and variance; with `pivots`, which takes the first channels, a share's mean less those, and M2."""
    COMPUTE: tl.constexpr = second.dtype.element_ty
    n, s, inside, split = sample_positions(sizes, TILE)
    begin = split * sizes.chunk
    end = tl.minimum(begin + sizes.chunk, sizes.C)
    t = load_per_position(rows, n, s, inside, sizes, TILE) if rows is not None else None
    zero = tl.zeros((1, 1), tl.int32)
    pivot = standardized_tile(x, center, scale, shift, outer, t, n, zero, s, zero == 0, inside, sizes, TILE)

    m = zeros(TILE, COMPUTE)
    m2 = zeros(TILE, COMPUTE)
    seen = tl.full((), 0, COMPUTE)
    for first in range(begin, end, TILE.planes):
        c, real = tile_channels(first, sizes, TILE)
        value = standardized_tile(x, center, scale, shift, outer, t, n, c, s, real, inside, sizes, TILE) - pivot
        # A lane misses none but its last tile, so all lanes that see this one have seen as many.
        seen += 1
        step = tl.where(real, value - m, 0.0)
        m = tl.fma(step, 1 / seen, m)
        m2 = tl.fma(step, value - m, m2)

    first_seen, _ = tile_channels(begin, sizes, TILE)
    count = (tl.maximum(end - first_seen + (TILE.planes - 1), 0) // TILE.planes).to(COMPUTE)
    total = (end - begin).to(COMPUTE)
    centre, m2 = merge_moments(count, m, m2, total, AXIS=1 if TILE.channels_last else 0)
    if pivots is not None:
        store_per_position(pivots, pivot, 0, n, s, inside & (s + split * sizes.S < sizes.S), sizes, TILE)
        store_per_position(mean, centre, split, n, s, inside, sizes, TILE)
        store_per_position(second, m2, split, n, s, inside, sizes, TILE)
    else:
        store_per_position(mean, pivot + centre, 0, n, s, inside, sizes, TILE)
        store_per_position(second, m2 / total, 0, n, s, inside, sizes, TILE)


def position_moments(
    x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, outer: Tensor | None, t: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over channels of scale*(x - center) + shift + outer*t (N, S)."""
    mean, var = per_position(x), per_position(x)
    if x.numel() == 0:
        return mean, var
    launch = Launch("position_moments", x)
    args = (*(per_plane(p) for p in (center, scale, shift, outer)), t)
    sizes = launch.plan.sizes
    if sizes.splits == 1:
        launch.run(position_moments_kernel, *args, mean, var, None)
    else:
        partials = [torch.empty((sizes.splits, *mean.shape), dtype=mean.dtype, device=x.device) for _ in range(2)]
        launch.run(position_moments_kernel, *args, *partials, mean)
        launch.merge(merge_moments_kernel, *partials, mean, var, sizes.C, width=mean.numel())
    return mean, var
