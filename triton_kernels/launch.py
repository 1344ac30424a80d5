"""From tensors to a started kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import tuning
from .layout import INT32_OFFSETS, Sizes, Tile, View, is_channels_last, merge_positions
from .merging import merge_sums_kernel


@dataclass(frozen=True)
class Plan:
    """All that follows from shape and strides."""

    sizes: Sizes
    tile: Tile
    strides: tuple[tuple[int, ...], ...]  # of each tensor's View
    programs: int
    num_warps: int


class Launch:
    """How one of the kernels runs on x and tensors of x's shape; x decides. None takes a place."""

    def __init__(self, kernel: str, x: Tensor, *others: Tensor | None) -> None:
        tensors = (x, *others)
        strides = tuple(x.stride() if t is None else t.stride() for t in tensors)
        self.device = x.device
        self.plan = plan(tuning.TABLE[kernel], x.element_size(), tuple(x.shape), strides)
        self.views = tuple(View(t, *s) for t, s in zip(tensors, self.plan.strides, strict=True))

    def run(self, kernel: Any, *args: Any, **constants: Any) -> None:
        """The kernel gets the views first, and sizes and tile last."""
        p = self.plan
        start(
            kernel,
            p.programs,
            p.num_warps,
            self.device,
            *self.views,
            *args,
            p.sizes,
            TILE=p.tile,
            **constants,
        )

    def sum_up(self, kernel: Any, args: Sequence[Any], sums: Sequence[Tensor | None], **constants: Any) -> None:
        """As run; after args the kernel gets where its sums go, or where programs that share them leave partials."""
        splits = self.plan.sizes.splits
        if splits == 1:
            self.run(kernel, *args, *sums, **constants)
            return
        parts = [None if t is None else torch.empty((splits, *t.shape), dtype=t.dtype, device=t.device) for t in sums]
        self.run(kernel, *args, *parts, **constants)
        there = tuple(t for t in sums if t is not None)
        if there:
            partials = tuple(t for t in parts if t is not None)
            self.merge(merge_sums_kernel, partials, there, width=there[0].numel())

    def merge(self, kernel: Any, *args: Any, width: int) -> None:
        """Then the kernel that merges the (splits, width) partials. It gets the sizes last, width for the planes."""
        sizes, entry = self.plan.sizes, tuning.MERGE
        lanes, across, programs = tuning.merge_blocks(sizes.splits, width)
        start(
            kernel,
            programs,
            entry.num_warps,
            self.device,
            *args,
            sizes._replace(planes=width),
            SPLITS=lanes,
            PLANES=across,
        )


@lru_cache(maxsize=4096)
def plan(entry: tuning.Streaming, itemsize: int, size: tuple[int, ...], strides: tuple[tuple[int, ...], ...]) -> Plan:
    N, C, S = size[0], size[1], math.prod(size[2:])
    channels_last = is_channels_last(size, strides[0])
    merged_sizes, merged = merge_positions(size[2:], [s[2:] for s in strides])
    P1, P2 = (*merged_sizes, 1, 1)[1:3]
    views = [(s[0], s[1], *positions) for s, positions in zip(strides, merged, strict=True)]

    run = C if channels_last else S
    between_runs = (0, 2, 3, 4) if channels_last else (0, 1)
    align = math.gcd(16, run, *(view[i] for view in views for i in between_runs))
    views = [tuple(s // align if i in between_runs else s for i, s in enumerate(v)) for v in views]

    reach = max(sum((d - 1) * st for d, st in zip(size, s, strict=True)) for s in strides)
    b = tuning.blocks(entry, itemsize, N * C, C, S, channels_last)
    return Plan(
        Sizes(N * C, C, S, run // align, P1, P2, b.splits, b.chunk),
        Tile(
            b.planes,
            b.positions,
            channels_last,
            len(merged_sizes),
            align,
            max(reach, N * C * S) > INT32_OFFSETS,
        ),
        tuple(views),
        b.programs,
        entry.num_warps,
    )


def start(kernel: Any, programs: int, num_warps: int, device: torch.device, *args: Any, **constants: Any) -> None:
    """No fused multiply-add but those written in the source, so that all versions of Triton agree."""
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[(programs,)](*args, num_warps=num_warps, enable_fp_fusion=False, **constants)


def compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def per_position(x: Tensor, absent: bool = False) -> Tensor:
    """A new tensor of one value a position (N, S), or of none; zeros where nothing will be found."""
    shape = (0,) if absent else (x.shape[0], math.prod(x.shape[2:]))
    make = torch.zeros if x.numel() == 0 else torch.empty
    return make(shape, dtype=compute_dtype(x), device=x.device)
