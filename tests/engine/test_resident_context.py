"""The Normalization-Attention module where the backend `cuda` keeps a sample on the chip, in a block or a cluster."""

from __future__ import annotations

import itertools

import pytest
import torch

import fusednorm
from fusednorm import reference
from fusednorm.engine import resident_context
from tests.cases import (
    ACTS,
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

SIMILARITIES = ("l1", "squared", "dot", "mean_difference", None)
# Rows of whole steps and others; a sample that takes a cluster of four blocks, and of eight on the way back.
SHAPES = ((4, 24, 7, 9), (4, 40, 8, 8), (4, 7, 5, 3), (3, 16, 98, 98))
CASES = list(drawn(itertools.product(SIMILARITIES, ACTS, LAYOUTS, SHAPES[:3]), cuda=9))
KEPT = [case[1:] for case in CASES if case[0] == "cuda"]


def pair(similarity, **options):
    return randomized(*(ns.NormalizationAttention(similarity=similarity, **options) for ns in (fusednorm, reference)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("similarity", "act", "layout", "shape"), KEPT)
def test_cuda_kept(similarity, act, layout, shape, dtype):
    for residual in (False, True):
        layers = pair(similarity, act=act, unbiased=residual)
        draws = three_ways(
            "cuda", *layers, lambda: laid_out(maps_like(*shape), layout), TYPES[dtype], residual=residual
        )
        assert_twice_as_good(draws, TYPES[dtype])


CLUSTERS = [(layout, *case) for layout, case in itertools.product(LAYOUTS, [("l1", "relu"), ("dot", "silu")])]


@pytest.mark.parametrize(("layout", "similarity", "act"), CLUSTERS if KEPT else [])
def test_cuda_in_a_cluster(layout, similarity, act):
    """600 KB a sample, and as much again on the way back."""
    x = laid_out(maps_like(*SHAPES[3]), layout)
    draws = three_ways("cuda", *pair(similarity, act=act), lambda: x, torch.float32, draws=1)
    assert_twice_as_good(draws, torch.float32)


@pytest.mark.parametrize("similarity", SIMILARITIES if KEPT else [])
def test_cuda_far_from_zero(similarity, monkeypatch):
    """At a mean of 1e4 rounding it moves the weights of l1 and squared by some 1e-4, and nothing else."""
    kept, forward = [], resident_context.forward
    monkeypatch.setattr(resident_context, "forward", lambda *call: (kept.append(True), forward(*call))[1])
    x = maps_like(3, 16, 6, 6).float() + 1e4
    fused, plain = pair(similarity)
    with fusednorm.use_backend("cuda"):
        y = fused(x)
    # Streaming rounds a channel's context to float32 before it is standardized over channels.
    rtol = 3e-4 if similarity in ("l1", "squared") or not kept else 1e-5
    torch.testing.assert_close(y, plain.double()(x.double()).float(), rtol=rtol, atol=0)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("similarity", SIMILARITIES if KEPT else [])
def test_cuda_after_running_statistics(similarity, layout, affine):
    """What comes before the gate is known, and its parameters have gradients."""

    def make(ns):
        then = ns.recalibrations.NormalizationAttention(16, affine, similarity=similarity)
        return ns.RecalibratedNorm(ns.standardizations.Batch(16), then, "relu")

    layers = randomized(*(make(ns) for ns in (fusednorm, reference)))
    draws = three_ways("cuda", *layers, lambda: laid_out(maps_like(4, 16, 5, 4), layout), torch.float32, training=False)
    assert_twice_as_good(draws, torch.float32)


@pytest.mark.parametrize("similarity", ["squared", None] if KEPT else [])
def test_cuda_strides(similarity):
    """dy of any strides, one value for all among them; and an x with gaps, which is streamed."""
    fused, plain = pair(similarity, act="relu6")
    x = maps_like(4, 8, 6, 5).float()
    gap, turned = maps_like(4, 8, 6, 7).float()[..., 1:-1], maps_like(4, 8, 5, 6).float().mT
    maps = (x, channels_last(x), gap, turned)
    gradients = (x.flip(3), channels_last(x.flip(3)), torch.ones(1, 1, 1, 1).expand_as(x), x.new_ones(4, 8, 5, 6).mT)
    for of, dy in itertools.product(maps, gradients):
        with fusednorm.use_backend("cuda"):
            ours = Contender(fused, of, None, dy)
        theirs = Contender(plain, of, None, dy)
        for name, expected in theirs.tensors.items():
            torch.testing.assert_close(ours.tensors[name], expected, rtol=1e-4, atol=1e-5)
