"""position_reduce: a weighted sum over channels at each position.

    t[n,s] = sum_c weight*f(x - center)      f = d, |d| or d²

Traffic: 1 unit (read x); of the result 1/C.

Launch: a program has a few positions of one sample and walks over the channels tile by tile; every lane adds up the
channels it sees, at the end those of a position are added. Where there are too few positions for the GPU, the
channels are split over programs; a second kernel adds up their partials, in fixed order.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import Launch, per_position
from .layout import load, load_per_plane, per_plane, tile_channels, zeros
from .positions import add_channels, of_kind, sample_positions


@triton.jit
def position_reduce_kernel(x, center, weight, t, sizes, KIND: tl.constexpr, TILE: tl.constexpr):
    COMPUTE: tl.constexpr = center.ptr.dtype.element_ty
    n, s, inside, split = sample_positions(sizes, TILE)
    begin = split * sizes.chunk

    total = zeros(TILE, COMPUTE)
    for first in range(begin, tl.minimum(begin + sizes.chunk, sizes.C), TILE.planes):
        c, real = tile_channels(first, sizes, TILE)
        d = load(x, n, c, s, real & inside, sizes, TILE).to(COMPUTE) - load_per_plane(center, n, c, real)
        total = tl.fma(load_per_plane(weight, n, c, real), of_kind(d, KIND), total)
    add_channels(t, total, split, n, s, inside, sizes, TILE)


def position_reduce(x: Tensor, center: Tensor, weight: Tensor, kind: str) -> Tensor:
    """Sum over channels of weight*f(x - center) (N, S)."""
    t = per_position(x)
    if x.numel() > 0:
        launch = Launch("position_reduce", x)
        launch.sum_up(position_reduce_kernel, (per_plane(center), per_plane(weight)), (t,), KIND=kind)
    return t
