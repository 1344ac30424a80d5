"""Layers with statistics over channels at each position where `cuda` keeps a sample on the chip, in a block or a
cluster."""

from __future__ import annotations

import itertools

import pytest
import torch

import fusednorm
from fusednorm import reference
from fusednorm.engine import joint, resident
from tests.cases import (
    ACTS,
    BACKENDS,
    LAYOUTS,
    TYPES,
    Contender,
    assert_twice_as_good,
    channels_last,
    drawn,
    laid_out,
    maps_like,
    randomized,
    three_ways,
)

STATISTICS = ((None, "spatial_mean"), ("spatial_std", None), ("spatial_mean", "spatial_std"))
# Rows of whole steps and others, and, on a small device (Makefile), of 16 channels in one block and 5 in the next; a
# sample that takes a cluster of two blocks, and of four on the way back.
SHAPES = ((4, 24, 7, 9), (4, 40, 8, 8), (4, 7, 5, 3), (4, 21, 7, 9))
LARGE = (4, 32, 44, 44)
KEPT = [
    case[1:]
    for case in drawn(itertools.product(STATISTICS, ACTS, LAYOUTS, SHAPES), cuda=8)
    if case[0] == "cuda" and "cuda" in BACKENDS
]


def pair(channels, center, scale, **options):
    options |= {"center": center, "scale": scale}
    return randomized(*(ns.RepresentativeBatchNorm2d(channels, **options) for ns in (fusednorm, reference)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("statistics", "act", "layout", "shape"), KEPT)
def test_cuda_kept(statistics, act, layout, shape, dtype):
    for training in (False, True):
        layers = pair(shape[1], *statistics, act=act)
        draws = three_ways(
            "cuda",
            *layers,
            lambda: laid_out(maps_like(*shape), layout),
            TYPES[dtype],
            training=training,
            residual=training,
        )
        assert_twice_as_good(draws, TYPES[dtype])


def is_large(x):
    """Whether the device is as the emulation makes it unless told otherwise: no small one, and with clusters."""
    shared, _, cluster = resident.limits(x.device)
    return shared > 200_000 and cluster > 1


@pytest.mark.parametrize(("layout", "statistics"), list(itertools.product(LAYOUTS, STATISTICS)) if KEPT else [])
def test_cuda_in_a_cluster(layout, statistics):
    """248 KB a sample, and as much again on the way back."""
    x = laid_out(maps_like(*LARGE), layout)
    if is_large(x):
        assert joint.blocks("position_moments_affine", "cuda", x.float(), None) == 2
        assert joint.blocks("position_affine_spread_reduce", "cuda", x.float(), None) == 4
    draws = three_ways("cuda", *pair(LARGE[1], *statistics, act="relu"), lambda: x, torch.float32, draws=1)
    assert_twice_as_good(draws, torch.float32)


@pytest.mark.skipif(not KEPT, reason="no CUDA")
def test_strides():
    """dy of any strides; and an x with gaps, which streams."""
    fused, plain = pair(8, None, "spatial_std", act="relu6")
    x = maps_like(4, 8, 6, 5).float()
    gap = maps_like(4, 8, 6, 7).float()[..., 1:-1]
    gradients = (x.flip(3), channels_last(x.flip(3)), torch.ones(1, 1, 1, 1).expand_as(x), x.new_ones(4, 8, 5, 6).mT)
    for of, dy in itertools.product((x, channels_last(x), gap), gradients):
        with fusednorm.use_backend("cuda"):
            ours = Contender(fused, of, None, dy)
        theirs = Contender(plain, of, None, dy)
        for name, expected in theirs.tensors.items():
            torch.testing.assert_close(ours.tensors[name], expected, rtol=1e-4, atol=1e-5)
