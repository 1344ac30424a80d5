"""The Normalization-Attention module as one operator a direction: on `cpu`, and where `cuda` keeps a sample on the
chip, in a block or a cluster."""

from __future__ import annotations

import itertools

import pytest
import torch

import fusednorm
from fusednorm import reference
from fusednorm.engine import resident, whole_context
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
from tests.engine.test_operators import UTILITIES

SIMILARITIES = ("l1", "squared", "dot", "mean_difference", None)
# Rows of whole steps and others, and, on a small device (Makefile), of 16 channels in one block and 5 in the next; a
# sample that takes a cluster of two blocks, and of four on the way back.
SHAPES = ((4, 24, 7, 9), (4, 40, 8, 8), (4, 7, 5, 3), (4, 21, 7, 9))
LARGE = (4, 32, 44, 44)
CASES = list(drawn(itertools.product(SIMILARITIES, ACTS, LAYOUTS, SHAPES), cuda=10))
KEPT = [case[1:] for case in CASES if case[0] == "cuda"]
WHOLE = [name for name in BACKENDS if name in ("cpu", "cuda")]


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
    """248 KB a sample, and as much again on the way back."""
    x = laid_out(maps_like(*LARGE), layout)
    shared, _, cluster = resident.limits(x.device)
    if shared > 200_000 and cluster > 1:
        assert [resident.blocks(x.float(), (), resident.Room(maps, maps, 10)) for maps in (1, 2)] == [2, 4]
    draws = three_ways("cuda", *pair(similarity, act=act), lambda: x, torch.float32, draws=1)
    assert_twice_as_good(draws, torch.float32)


@pytest.mark.parametrize("backend", WHOLE)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_far_from_zero(similarity, backend, monkeypatch):
    """At a mean of 1e4 rounding it moves the weights of l1 and squared by some 1e-4, and nothing else."""
    kept, forward = [], whole_context.forward
    monkeypatch.setattr(whole_context, "forward", lambda *call: (kept.append(True), forward(*call))[1])
    x = maps_like(3, 16, 6, 6).float() + 1e4
    fused, plain = pair(similarity)
    with fusednorm.use_backend(backend):
        y = fused(x)
    # Streaming rounds a channel's context to float32 before it is standardized over channels; on the CPU where no plane
    # means are taken.
    rounded = not kept or (backend == "cpu" and similarity == "mean_difference")
    rtol = 3e-4 if similarity in ("l1", "squared") or rounded else 1e-5
    torch.testing.assert_close(y, plain.double()(x.double()).float(), rtol=rtol, atol=0)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("backend", WHOLE)
def test_after_running_statistics(backend, similarity, layout, affine):
    """What comes before the gate is known, and its parameters have gradients."""

    def make(ns):
        then = ns.recalibrations.NormalizationAttention(16, affine, similarity=similarity)
        return ns.RecalibratedNorm(ns.standardizations.Batch(16), then, "relu")

    layers = randomized(*(make(ns) for ns in (fusednorm, reference)))
    draws = three_ways(
        backend, *layers, lambda: laid_out(maps_like(4, 16, 5, 4), layout), torch.float32, training=False
    )
    assert_twice_as_good(draws, torch.float32)


@pytest.mark.parametrize("similarity", ["squared", None])
@pytest.mark.parametrize("backend", WHOLE)
def test_strides(backend, similarity):
    """dy of any strides, one value for all among them; and an x with gaps, which cuda streams."""
    fused, plain = pair(similarity, act="relu6")
    x = maps_like(4, 8, 6, 5).float()
    gap, turned = maps_like(4, 8, 6, 7).float()[..., 1:-1], maps_like(4, 8, 5, 6).float().mT
    maps = (x, channels_last(x), gap, turned)
    gradients = (x.flip(3), channels_last(x.flip(3)), torch.ones(1, 1, 1, 1).expand_as(x), x.new_ones(4, 8, 5, 6).mT)
    for of, dy in itertools.product(maps, gradients):
        with fusednorm.use_backend(backend):
            ours = Contender(fused, of, None, dy)
        theirs = Contender(plain, of, None, dy)
        for name, expected in theirs.tensors.items():
            torch.testing.assert_close(ours.tensors[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif("cpu" not in WHOLE, reason="no native extension")
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("affine", [False, True], ids=["", "affine"])
@pytest.mark.parametrize("similarity", ["squared", "mean_difference", "none"])
def test_opcheck(similarity, affine, residual):
    x = maps_like(3, 4, 5, 2)
    more = torch.randn_like(x) if residual else None
    constants = [torch.randn(4, dtype=x.dtype) if affine else None for _ in range(3)]
    layer = (*constants, *torch.randn(2, 1, dtype=x.dtype), similarity, False, 1e-5, "relu")
    forward, backward = torch.ops.fusednorm.context_forward.cpu, torch.ops.fusednorm.context_backward.cpu
    call = (x, more, *layer, residual, 1)
    _, mask, mean, _, _, _, *kept = forward(*call)
    torch.library.opcheck(forward, call, test_utils=UTILITIES)
    given = (mean, *(t if similarity != "none" else None for t in kept))
    call = (torch.randn_like(x), x, None, mask if residual else None, *given, *layer, residual, 1)
    torch.library.opcheck(backward, call, test_utils=UTILITIES)
