"""Kernels that know a value per position: their programs' share, and those values.

Tiles lie within one sample, in both layouts, so that a tile's channels share its positions' values. Programs that sum
over positions, or nothing, are spread over channels and positions (sample_planes); those that sum over channels walk
along them, at positions of their own (sample_positions). A tensor of one value a position is dense, (N, S).
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl

from .layout import program, tile_channels, tile_positions


@triton.jit
def sample_planes(sizes, TILE: tl.constexpr):
    """The program's sample and channels, which of these are real, and its split of the positions."""
    pid = program(TILE)  # neighbouring programs: neighbouring channels, which read the same positions' values
    blocks = tl.cdiv(sizes.C, TILE.planes)
    c, real = tile_channels((pid % blocks) * TILE.planes, sizes, TILE)
    rest = pid // blocks
    return rest // sizes.splits, c, real, rest % sizes.splits


@triton.jit
def sample_positions(sizes, TILE: tl.constexpr):
    """The program's sample and positions, which of these are inside, and its split of the channels."""
    pid = program(TILE)
    blocks = tl.cdiv(sizes.S, TILE.positions)
    s, inside = tile_positions((pid % blocks) * TILE.positions, sizes, TILE)
    rest = pid // blocks
    return rest // sizes.splits, s, inside, rest % sizes.splits


@triton.jit
def position_offsets(n, s, sizes, TILE: tl.constexpr):
    """Into (N, S); planar runs are S long, and the compiler shall know of what it is a multiple."""
    return n * (sizes.S if TILE.channels_last else sizes.run * TILE.align) + s


@triton.jit
def load_per_position(ptr, n, s, inside, sizes, TILE: tl.constexpr):
    return tl.load(ptr + position_offsets(n, s, sizes, TILE), mask=inside, other=0.0)


@triton.jit
def add_channels(ptr, terms, split, n, s, inside, sizes, TILE: tl.constexpr):
    """Store a tile's sums over channels, in a program's part of (splits, N, S)."""
    AXIS: tl.constexpr = 1 if TILE.channels_last else 0
    store_per_position(ptr, tl.sum(terms, AXIS, keep_dims=True), split, n, s, inside, sizes, TILE)


@triton.jit
def store_per_position(ptr, value, split, n, s, inside, sizes, TILE: tl.constexpr):
    samples = sizes.planes // sizes.C
    tl.store(ptr + position_offsets(split * samples + n, s, sizes, TILE), value, mask=inside)


@triton.jit
def add_positions(ptr, terms, first, n, c, real, sizes, TILE: tl.constexpr):
    """Store a tile's sums over positions, in matrix number `first` of (.., N, C)."""
    AXIS: tl.constexpr = 0 if TILE.channels_last else 1
    tl.store(ptr + first * sizes.planes + n * sizes.C + c, tl.sum(terms, AXIS, keep_dims=True), mask=real)


@triton.jit
def fold(terms, TILE: tl.constexpr):
    """A tile's sums over four neighbouring positions, which planar are one thread's."""
    if TILE.channels_last:
        return terms
    else:
        return tl.sum(tl.reshape(terms, (TILE.planes, TILE.positions // 4, 4)), 2)


@triton.jit
def folded_zeros(TILE: tl.constexpr, dtype: tl.constexpr):
    """Where such sums are added up; by tl.full, as layout.zeros."""
    if TILE.channels_last:
        return tl.full((TILE.positions, TILE.planes), 0, dtype)
    else:
        return tl.full((TILE.planes, TILE.positions // 4), 0, dtype)


@triton.jit
def of_kind(d, KIND: tl.constexpr):
    """f(d)."""
    if KIND == "sum":
        return d
    elif KIND == "abs":
        return tl.abs(d)
    else:
        tl.static_assert(KIND == "square", "unknown kind")
        return d * d


@triton.jit
def slope_of_kind(d, KIND: tl.constexpr):
    """f'(d), of kinds that are not straight."""
    if KIND == "abs":
        return tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, d))  # d, where it is 0 or NaN
    else:
        tl.static_assert(KIND == "square", "unknown kind")
        return 2 * d
