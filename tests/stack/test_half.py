"""16-bit layers: buffers rounded by half(), kept wide by dtype=, restored by hand; one's state in the other."""

import copy

import pytest
import torch
from torch import nn

import fusednorm
from tests.cases import FURTHER, LAYERS
from tests.stack.layers import KINDS, OVER_BATCH, layer, maps

TYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def made(kind, **options):
    if kind.startswith("batch squeeze"):  # tests.cases' takes no dtype
        part, then = fusednorm.standardizations.Batch, fusednorm.recalibrations.SqueezeExcite
        return fusednorm.RecalibratedNorm(part(8, **options), then(8, 2, gate="hsigmoid", **options), "relu")
    return (LAYERS | FURTHER)[kind](fusednorm, 4, 8, act="relu", **options)


def statistics(module):
    return {name: b for name, b in module.named_buffers() if b.is_floating_point()}


@TYPES
@pytest.mark.parametrize("kind", KINDS)
def test_three_ways(kind, dtype):
    """Rounded by to(dtype), as torch's; wide when made with dtype=, or after they were restored: then they move as the
    float32 layer's do on the same map."""
    wide, x = layer(kind), maps()[0].to(dtype)
    rounded = copy.deepcopy(wide).to(dtype)
    assert {t.dtype for t in statistics(rounded).values()} <= {dtype}
    narrow = made(kind, dtype=dtype)
    assert {p.dtype for p in narrow.parameters()} <= {dtype}
    assert {t.dtype for t in statistics(narrow).values()} <= {torch.float32}
    restored = copy.deepcopy(wide).to(dtype)
    for m in restored.modules():
        for name, b in list(m._buffers.items()):
            if b is not None and b.is_floating_point():
                setattr(m, name, b.float())
    with torch.no_grad():  # of what its parameters are, rounded
        for p, q in zip(wide.parameters(), rounded.parameters(), strict=True):
            p.copy_(q)
        for b, c in zip(statistics(wide).values(), statistics(rounded).values(), strict=True):
            b.copy_(c)
    y = wide(x)
    for module in (rounded, restored):
        z = module(x)
        assert z.dtype == dtype
        torch.testing.assert_close(z, y)
    for name, truth in statistics(wide).items():
        torch.testing.assert_close(statistics(restored)[name], truth)
        torch.testing.assert_close(statistics(rounded)[name], truth.to(dtype))


@TYPES
@pytest.mark.parametrize("kind", OVER_BATCH)
def test_states(kind, dtype):
    """A float32 layer's state into a 16-bit one and back: parameters rounded, statistics as they were."""
    wide, narrow = layer(kind), made(kind, dtype=dtype)
    for module in (wide, narrow):
        module.requires_grad_(False)
    narrow.load_state_dict(wide.state_dict())
    for name, p in narrow.named_parameters():
        assert torch.equal(p, wide.get_parameter(name).to(dtype))
    for name, b in narrow.named_buffers():
        assert torch.equal(b, wide.get_buffer(name))
    back = copy.deepcopy(wide)
    back.load_state_dict(narrow.state_dict())
    for name, p in back.named_parameters():
        assert torch.equal(p, wide.get_parameter(name).to(dtype).float())
    rounded = copy.deepcopy(wide).to(dtype)
    narrow.load_state_dict(rounded.state_dict())
    for name, b in narrow.named_buffers():
        assert torch.equal(b, rounded.get_buffer(name).to(b.dtype)), "float32 buffers, rounded values"


def test_why_wide():
    """A deviation that a momentum of 0.01 adds to bfloat16 statistics is lost; to float32 ones it is not."""
    narrow, rounded = (fusednorm.BatchNorm2d(4, momentum=0.001, dtype=torch.bfloat16) for _ in range(2))
    rounded.to(torch.bfloat16)
    theirs = nn.BatchNorm2d(4, momentum=0.001)
    for _ in range(50):
        x = (torch.randn(8, 4, 9, 9) * 1.2).to(torch.bfloat16)
        narrow(x), rounded(x), theirs(x.float())
    torch.testing.assert_close(narrow.running_var, theirs.running_var)
    assert torch.equal(rounded.running_var, torch.ones(4, dtype=torch.bfloat16))
