"""How a kernel finds its values: tensors as pointer and strides (host), a program's tile of them (device).

All kernels work on tiles of planes and positions. Planar: a tile's rows are planes (counted through all samples; of
one sample in kernels that know a value per position, positions.py), its columns positions. Channels_last: rows are
positions, columns are channels of one sample. So the innermost run of memory always lies along the tile's axis 1, and
positions along axis 1 or 0.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

# Offsets up to here fit int32, with room for the lanes of a last tile that lie outside the tensor.
INT32_OFFSETS = 2**31 - 2**24


class View(NamedTuple):
    """A tensor of x's shape: data, and strides of samples, channels and up to three position dimensions.

    Strides from one run to another (planar: n and c, channels_last: all but c) count in `align` values.
    The kernel multiplies them by that constant, so the compiler knows where runs start and may load 16 bytes.
    """

    ptr: Tensor | None
    n: int
    c: int
    s0: int
    s1: int
    s2: int


class PerPlane(NamedTuple):
    """A tensor of one value a plane."""

    ptr: Tensor | None
    n: int
    c: int


class Bits(NamedTuple):
    """A mask: one byte for eight values of a run; a run is a plane (planar) or a position (channels_last)."""

    ptr: Tensor | None
    n: int
    run: int
    byte: int


class Sizes(NamedTuple):
    """The numbers of a launch that a kernel need not be compiled for."""

    planes: int
    C: int
    S: int
    run: int  # length of a run, S or C, in units of `align`
    P1: int  # sizes of the second and third position dimension; the first is S // (P1*P2)
    P2: int
    splits: int  # programs that share the same planes (positions, where a kernel walks over channels)
    chunk: int  # positions of each of them (channels, where a kernel walks over those)


@dataclass(frozen=True)
class Tile:
    """What a kernel is compiled for."""

    planes: int
    positions: int
    channels_last: bool
    dims: int  # position dimensions after merging: 1 or 3
    align: int  # every run starts at a multiple of this many values, and is as long; at most 16
    wide: bool  # offsets need int64


def per_plane(t: Tensor | None) -> PerPlane:
    return PerPlane(None, 0, 0) if t is None else PerPlane(t, *t.stride())


def bits(mask: Tensor | None) -> Bits:
    return Bits(None, 0, 0, 0) if mask is None else Bits(mask, *mask.stride())


def is_channels_last(size: Sequence[int], stride: Sequence[int]) -> bool:
    return size[1] > 1 and stride[1] == 1


def mask_shape(x: Tensor) -> tuple[int, int, int]:
    N, C, S = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    return (N, S, (C + 7) // 8) if is_channels_last(x.shape, x.stride()) else (N, C, (S + 7) // 8)


def merge_positions(size: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Sizes and strides of the position dimensions, neighbours merged where one stride walks through them.

    It must do so in every tensor. There is at least one size, and strides are padded with zeros.
    """
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for i, d in enumerate(size):
        if d == 1:
            continue
        if sizes and all(m[-1] == d * s[i] for m, s in zip(merged, strides, strict=True)):
            sizes[-1] *= d
            for m, s in zip(merged, strides, strict=True):
                m[-1] = s[i]
        else:
            sizes.append(d)
            for m, s in zip(merged, strides, strict=True):
                m.append(s[i])
    if len(sizes) == 2:  # kernels know one dimension or three
        sizes, merged = [1, *sizes], [[0, *m] for m in merged]
    return sizes or [1], [(*m, 0, 0, 0)[:3] for m in merged]


@triton.jit
def program(TILE: tl.constexpr):
    return tl.program_id(0).to(tl.int64 if TILE.wide else tl.int32)


@triton.jit
def tile_planes(sizes, TILE: tl.constexpr):
    """The program's planes (sample n, channel c, the first one's number, which are real) and its split."""
    pid = program(TILE)
    if TILE.channels_last:  # neighbouring programs: neighbouring channels, then positions, then samples
        blocks = tl.cdiv(sizes.C, TILE.planes)
        first = (pid % blocks) * TILE.planes
        c, real = tile_channels(first, sizes, TILE)
        rest = pid // blocks
        return rest // sizes.splits, c, first, real, rest % sizes.splits
    else:
        first = (pid // sizes.splits) * TILE.planes
        plane = (first + tl.arange(0, TILE.planes))[:, None]
        return plane // sizes.C, plane % sizes.C, first, plane < sizes.planes, pid % sizes.splits


@triton.jit
def tile_channels(first, sizes, TILE: tl.constexpr):
    """The channels of a tile that lies within one sample, and which of them are real."""
    c = first + tl.arange(0, TILE.planes)
    if TILE.channels_last:
        return c[None, :], c[None, :] < sizes.run * TILE.align
    else:
        return c[:, None], c[:, None] < sizes.C


@triton.jit
def tile_positions(first, sizes, TILE: tl.constexpr):
    """A tile's positions, and which of them are real."""
    s = first + tl.arange(0, TILE.positions)
    if TILE.channels_last:
        return s[:, None], s[:, None] < sizes.S
    else:
        return s[None, :], s[None, :] < sizes.run * TILE.align


@triton.jit
def zeros(TILE: tl.constexpr, dtype: tl.constexpr):
    """By tl.full: Triton 3.6 does not take TILE's fields as sizes in tl.zeros, which is a jit function itself."""
    if TILE.channels_last:
        return tl.full((TILE.positions, TILE.planes), 0, dtype)
    else:
        return tl.full((TILE.planes, TILE.positions), 0, dtype)


@triton.jit
def offsets(view, n, c, s, sizes, TILE: tl.constexpr):
    if TILE.dims == 1:
        along = s * view.s0
    else:
        row = s // sizes.P2
        along = (row // sizes.P1) * view.s0 + (row % sizes.P1) * view.s1 + (s % sizes.P2) * view.s2
    if TILE.channels_last:
        return (n * view.n + along) * TILE.align + c * view.c
    else:
        return (n * view.n + c * view.c) * TILE.align + along


@triton.jit
def load(view, n, c, s, valid, sizes, TILE: tl.constexpr):
    """A tile of the tensor in its own type, 0 where nothing is."""
    return tl.load(view.ptr + offsets(view, n, c, s, sizes, TILE), mask=valid, other=0.0)


@triton.jit
def store(view, value, n, c, s, valid, sizes, TILE: tl.constexpr):
    where = offsets(view, n, c, s, sizes, TILE)
    tl.store(view.ptr + where, value.to(view.ptr.dtype.element_ty), mask=valid)


@triton.jit
def load_per_plane(view, n, c, real):
    """The caller asks whether there is a tensor: with Triton 3.6 no function returns None, alone or in a tuple."""
    return tl.load(view.ptr + n * view.n + c * view.c, mask=real, other=0.0)


@triton.jit
def load_bits(mask, n, c, s, valid, TILE: tl.constexpr):
    """The mask's bits, as booleans. Eight lanes read the same byte: the cache serves that."""
    if TILE.channels_last:
        run, i = s, c
    else:
        run, i = c, s
    byte = tl.load(mask.ptr + n * mask.n + run * mask.run + (i // 8) * mask.byte, mask=valid, other=0)
    return ((byte.to(tl.int32) >> (i % 8).to(tl.int32)) & 1) != 0


@triton.jit
def store_bits(mask, passed, n, c, s, first, real, inside, sizes, TILE: tl.constexpr):
    """Pack booleans (false where nothing is) eight to a byte; `first`: where in its runs the tile begins."""
    if TILE.channels_last:
        run, others, length = s, inside, sizes.C
        octets = tl.reshape(passed.to(tl.int32), (TILE.positions, TILE.planes // 8, 8))
        i = (first // 8 + tl.arange(0, TILE.planes // 8))[None, :]
    else:
        run, others, length = c, real, sizes.S
        octets = tl.reshape(passed.to(tl.int32), (TILE.planes, TILE.positions // 8, 8))
        i = (first // 8 + tl.arange(0, TILE.positions // 8))[None, :]
    byte = tl.sum(octets << tl.arange(0, 8)[None, None, :], axis=2).to(tl.uint8)
    tl.store(mask.ptr + n * mask.n + run * mask.run + i * mask.byte, byte, mask=others & (i * 8 < length))
