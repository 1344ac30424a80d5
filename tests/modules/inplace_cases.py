"""What tests of inplace=True share: layers and their twins that write over x, compared bit for bit."""

import copy

import torch

import fusednorm
from fusednorm import recalibrations, standardizations
from tests.cases import FURTHER, LAYERS, pair

KINDS = LAYERS | FURTHER
PAIR = (standardizations.Representative(8, center="spatial_mean"), recalibrations.NormalizationAttention(8))


def head(mean, var):
    return 1 + mean.sigmoid(), -mean * var


def twins(kind, dims, channels, **options):
    """A layer, and a copy of it that writes over x."""
    layer = pair(kind, dims, channels, **options)[0]
    over = copy.deepcopy(layer)
    over.inplace = True
    return layer, over


def assert_same(found, expected, backend):
    """Bit for bit; torch's own operations round otherwise from layout to layout."""
    if backend == "torch":
        torch.testing.assert_close(found, expected)
    else:
        assert torch.equal(found, expected)


@torch.no_grad()
def check(backend, layer, over, x, *residual):
    """The same values over x, nothing beside them, and the same running statistics."""
    kept, version = copy.deepcopy(x), x._version
    others = [t.clone() for t in residual]
    with fusednorm.use_backend(backend):
        expected = layer(kept, *residual)
        y = over(x, *residual)
    assert y is x
    assert x._version > version
    assert not torch.equal(x, kept), "x is as it was"
    assert_same(x, expected, backend)
    for t, other in zip(residual, others, strict=True):
        assert torch.equal(t, other), "the residual is written to"
    for (name, found), theirs in zip(over.named_buffers(), layer.buffers(), strict=True):
        assert torch.equal(found, theirs), name
