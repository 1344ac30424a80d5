from __future__ import annotations

from itertools import product

import pytest
import torch

from fusednorm import triton_kernels

launch, layout, tuning = triton_kernels.launch, triton_kernels.layout, triton_kernels.tuning

STREAMING = tuning.Streaming()
REDUCING = tuning.Reducing()
IN_SAMPLES = (
    tuning.Streaming(segment=128),
    tuning.Reducing(segment=128),
    tuning.Reducing(segment=128, over="channels"),
)


def plan(*tensors: torch.Tensor, entry: tuning.Streaming = STREAMING) -> launch.Plan:
    size = tuple(tensors[0].shape)
    return launch.plan(entry, tensors[0].element_size(), size, tuple(t.stride() for t in tensors))


def test_positions_merge_where_every_tensor_allows() -> None:
    dense, rows = (12, 4, 1), (24, 8, 2)
    assert layout.merge_positions((2, 3, 4), [dense]) == ([24], [(1, 0, 0)])
    assert layout.merge_positions((2, 3, 4), [dense, rows]) == ([24], [(1, 0, 0), (2, 0, 0)])
    assert layout.merge_positions((2, 3, 4), [dense, (0, 0, 0)]) == ([24], [(1, 0, 0), (0, 0, 0)])
    assert layout.merge_positions((2, 3, 4), [dense, (15, 5, 1)]) == ([1, 6, 4], [(0, 4, 1), (0, 5, 1)])
    assert layout.merge_positions((2, 3, 4), [(50, 13, 3)]) == ([2, 3, 4], [(50, 13, 3)])
    assert layout.merge_positions((1, 3, 1), [(99, 1, 99)]) == ([3], [(1, 0, 0)])
    assert layout.merge_positions((), [()]) == ([1], [(0, 0, 0)])


@pytest.mark.parametrize(
    ("size", "align"), [((2, 8, 56, 56), 16), ((2, 8, 14, 14), 4), ((2, 8, 7, 7), 1), ((2, 8, 28, 30), 8)]
)
def test_alignment_of_planes(size: tuple[int, ...], align: int) -> None:
    p = plan(torch.empty(size))
    assert p.tile.align == align
    assert p.sizes.run * align == p.sizes.S
    assert [s * align for s in p.strides[0][:2]] == list(torch.empty(size).stride()[:2])


def test_alignment_of_pixels() -> None:
    x = torch.empty(2, 24, 5, 5).contiguous(memory_format=torch.channels_last)
    p = plan(x)
    assert p.tile.channels_last
    assert p.tile.align == 8
    assert p.sizes.run == 3


def test_the_least_aligned_tensor_decides() -> None:
    x = torch.empty(2, 8, 4, 4)
    assert plan(x, torch.empty(2, 8, 4, 5)[..., :4]).tile.align == 4
    assert plan(x, torch.empty(2, 8, 17)[..., :16].unflatten(2, (4, 4))).tile.align == 1


def test_large_tensors_get_int64_offsets() -> None:
    assert not plan(torch.empty(2**10, 2**10, 2**10, device="meta")).tile.wide
    assert plan(torch.empty(2**11, 2**10, 2**10, device="meta")).tile.wide
    strided = torch.empty_strided((2, 1, 4), (2**31, 4, 1), device="meta")
    assert plan(strided).tile.wide
    assert plan(torch.empty(2, 1, 4), strided).tile.wide


@pytest.mark.parametrize("entry", [STREAMING, REDUCING, *IN_SAMPLES])
@pytest.mark.parametrize("channels_last", [False, True])
def test_programs_cover_all_planes_and_positions(channels_last: bool, entry: tuning.Streaming) -> None:
    for N, C, S in product((1, 16), (1, 3, 17, 96, 2048), (1, 2, 9, 49, 196, 1025, 3136, 12544, 10**7)):
        check_blocks(N, C, S, channels_last, entry)


def check_blocks(N: int, C: int, S: int, channels_last: bool, entry: tuning.Streaming) -> None:
    b = tuning.blocks(entry, 4, N * C, C, S, channels_last)
    for n in (b.planes, b.positions):
        assert n & (n - 1) == 0  # a power of two
    assert (b.planes if channels_last else b.positions) % 8 == 0  # whole bytes of mask
    assert b.planes * b.positions <= max(entry.tile, 8 * b.planes, 8 * b.positions)
    over_channels = isinstance(entry, tuning.Reducing) and entry.over == "channels"
    extent, step = (C, b.planes) if over_channels else (S, b.positions)
    if over_channels:
        groups = N * -(-S // b.positions)
    else:
        groups = N * -(-C // b.planes) if channels_last or entry.segment else -(-N * C // b.planes)
    assert b.programs == groups * b.splits
    assert b.chunk % step == 0
    assert (b.splits - 1) * b.chunk < extent <= b.splits * b.chunk
    if isinstance(entry, tuning.Reducing):
        assert b.splits <= entry.splits
    else:
        assert b.chunk == b.positions


@pytest.mark.parametrize(("splits", "planes"), [(2, 1), (3, 100), (1024, 1), (1000, 5)])
def test_merging_programs_cover_all_partials(splits: int, planes: int) -> None:
    lanes, across, programs = tuning.merge_blocks(splits, planes)
    assert lanes >= splits
    assert across * programs >= planes


def test_few_large_planes_are_split() -> None:
    assert plan(torch.empty(1, 4, 1024, 1024), entry=REDUCING).sizes.splits > 100
    assert plan(torch.empty(64, 256, 56, 56, device="meta"), entry=REDUCING).sizes.splits == 1
