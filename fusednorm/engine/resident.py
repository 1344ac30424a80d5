"""Which samples a GPU keeps on the chip, in a block or a cluster of them, from shapes alone: the compiler can follow.

The numbers are csrc/cuda/sample.h's."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .backends import assumed_constant, kernel
from .layout import is_channels_last, positions

ROOM, SECTOR = 9216, 32
IDLE = 2  # at least this part of the multiprocessors gets a block, or the streaming kernels should be faster


class Room(NamedTuple):
    """What a block keeps: maps, and values of each position and each channel."""

    maps: int
    rows: int
    arrays: int


def blocks(x: Tensor, others: tuple[Tensor | None, ...], room: Room) -> int:
    """How many blocks keep a sample of x; 0 where it does not fit, or is better streamed. others: what is read beside
    it, and must lie as x does."""
    if x.dtype == torch.float64 or x.numel() == 0:
        return 0
    last = is_channels_last(x)
    if not all(t is None or _dense(t, last) for t in (x, *others)):
        return 0
    shared, multiprocessors, cluster = limits(x.device)
    N, C, S, size = x.shape[0], x.shape[1], positions(x), x.element_size()
    for count in (1, 2, 4, 8):
        channels = C if count == 1 else _whole(-(-C // count), SECTOR // size)
        if count > cluster or channels * (count - 1) >= C:
            return 0
        maps = room.maps * _whole(channels * S * size, 16)
        kept = maps + 4 * room.rows * _whole(S, 4) + 4 * room.arrays * _whole(channels, 4) + ROOM
        if kept <= shared and N * count * IDLE >= multiprocessors:
            return count
    return 0


def _whole(n: int, piece: int) -> int:
    return (n + piece - 1) // piece * piece


def _dense(t: Tensor, channels_last: bool) -> bool:
    return (t.movedim(1, -1) if channels_last else t).is_contiguous()


_known: dict[tuple[str, int], tuple[int, int, int]] = {}


def limits(device: torch.device) -> tuple[int, int, int]:
    """Of a device: bytes of shared memory that a block may have, multiprocessors, blocks of a cluster."""
    return _limits(device.type, device.index)


@assumed_constant
def _limits(device: str, index: int | None) -> tuple[int, int, int]:
    at = device, index or 0
    if at not in _known:
        _known[at] = kernel("resident_limits", "cuda")(torch.empty(0, 1, device=torch.device(*at)))
    return _known[at]
