"""How much a program does: one small table, and the block shapes that follow from it.

The numbers are reckoned from what the hardware offers and what the compiler makes of the kernels (`make check-kernels`
prints it), not tuned: no GPU has timed them yet.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Streaming:
    """One program, one tile."""

    tile: int = 2048  # values: 16 a thread, so 4 (float32) or 2 (half) 16-byte loads from every tensor read
    bytes: int = 8192  # of a tile of each tensor at most: a double takes two registers
    num_warps: int = 4  # 128 threads: at 64 registers a thread, eight programs share an SM
    row: int = 64  # channels_last: values of a row, one full 128-byte line of a half type
    # Planar: positions of a row, in tiles that lie within one sample, whose channels share what is one value per
    # position. None: rows as long as the tile allows, planes counted through all samples.
    segment: int | None = None


@dataclass(frozen=True)
class Reducing(Streaming):
    """One program walks over many tiles of its planes, or channels; few large ones are split over several programs."""

    # 16 values a thread as above, but 256 threads: with 128 ptxas stops at 72 registers and spills (float16).
    tile: int = 4096
    bytes: int = 16384
    num_warps: int = 8
    programs: int = 1024  # about eight for each of an H100's 132 SMs; a constant, so that results are too
    tiles: int = 2  # a program with fewer tiles spends its time on starting and on the last reduction
    splits: int = 1024  # the merging program holds all partials of a plane in one tile
    over: str = "positions"  # what a program walks over, or "channels": sums at each position


@dataclass(frozen=True)
class Merging:
    tile: int = 2048  # as above, of each kind of partial
    num_warps: int = 4


TABLE: dict[str, Streaming] = {
    "plane_moments": Reducing(),
    "plane_affine": Streaming(),
    # With twice the bytes gelu's slope takes up to 128 registers of float32 and 228 of float64, and 36 KiB under way on
    # an SM become 24 (sm_90): an H200 needs 29 to keep its memory busy.
    "plane_affine_reduce": Reducing(bytes=8192),
    "plane_affine_grad": Streaming(),
    # 256 threads and rows of 128 positions: then a value per position is loaded by the threads that use it. Longer rows
    # would be loaded once, by other threads, and whole tiles exchanged for it through shared memory. 4 or 8 values a
    # thread, for seven sums and eight coefficients take the registers.
    "position_reduce": Reducing(tile=2048, bytes=4096, segment=128, over="channels"),
    "plane_pool": Reducing(tile=2048, bytes=4096, segment=128),
    "position_moments": Reducing(tile=2048, bytes=4096, segment=128, over="channels"),
    "position_affine": Streaming(tile=2048, bytes=8192, num_warps=8, segment=128),
    "position_affine_reduce": Reducing(tile=2048, bytes=4096, segment=128),
    "position_affine_spread": Reducing(tile=2048, bytes=4096, segment=128, over="channels"),
    "position_affine_grad": Streaming(tile=2048, bytes=8192, num_warps=8, segment=128),
}
MERGE = Merging()


@dataclass(frozen=True)
class Blocks:
    """A tile of `planes` by `positions`; `splits` programs for the same planes, `chunk` positions each (or, where
    channels are walked over, for the same positions, `chunk` channels each)."""

    planes: int
    positions: int
    programs: int
    splits: int
    chunk: int


def values(entry: Streaming, itemsize: int) -> int:
    """Of a tile."""
    return min(entry.tile, entry.bytes // itemsize)


def blocks(entry: Streaming, itemsize: int, planes: int, C: int, S: int, channels_last: bool) -> Blocks:
    tile = values(entry, itemsize)
    if channels_last:
        across = _block(C, tile if S == 1 else min(tile, entry.row))
        along = min(_power_of_2(S), max(1, tile // across))
    elif entry.segment is None:
        along = _block(S, tile)
        across = min(_power_of_2(planes), max(1, tile // along))
    else:
        along = _block(S, min(tile, max(entry.segment, tile // _power_of_2(C))))
        across = min(_power_of_2(C), max(1, tile // along))
    in_samples = channels_last or entry.segment is not None
    rows = planes // C * _cdiv(C, across) if in_samples else _cdiv(planes, across)
    if isinstance(entry, Reducing) and entry.over == "channels":
        groups, extent, step = planes // C * _cdiv(S, along), C, across
    else:
        groups, extent, step = rows, S, along
    tiles = _cdiv(extent, step)
    splits = tiles
    if isinstance(entry, Reducing):
        splits = max(1, min(_cdiv(entry.programs, groups), tiles // entry.tiles, entry.splits))
    chunk = _cdiv(tiles, splits) * step
    splits = _cdiv(extent, chunk)
    return Blocks(across, along, groups * splits, splits, chunk)


def merge_blocks(splits: int, planes: int) -> tuple[int, int, int]:
    """For a merging kernel: lanes along the splits, planes a program, programs."""
    lanes = _power_of_2(splits)
    across = min(_power_of_2(planes), max(1, MERGE.tile // lanes))
    return lanes, across, _cdiv(planes, across)


def _block(n: int, limit: int) -> int:
    """Length of a tile along memory: the largest power of two that wastes at most a quarter of the lanes.

    At least 8, a whole byte of mask; and none below 32 for the sake of waste.
    """
    largest = max(8, min(limit, _power_of_2(n)))
    block = largest
    while block > 32 and _cdiv(n, block) * block * 3 > n * 4:
        block //= 2
    return block if _cdiv(n, block) * block * 3 <= n * 4 else largest


def _power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)
