"""average_statistics counts each layer's calls: empty maps, layers left out or called twice, compiled, in 16 bits."""

import copy

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import SwitchableNorm2d, recalibrations, standardizations
from tests.cases import maps_like


def batches(n=3):
    return [maps_like(4, 6, 5, 3).float() + i for i in range(n)]


def expect(layer, maps, pooled=False, **tolerance):
    """The averages of SN's statistics of these maps."""
    means = torch.stack([x.double().mean((0, 2, 3)) for x in maps])
    variances = torch.stack([x.double().var((0, 2, 3), correction=0) for x in maps])
    var = variances.mean(0) + (means.var(0, correction=0) if pooled else 0)
    torch.testing.assert_close(layer.running_mean.double(), means.mean(0), **tolerance)
    torch.testing.assert_close(layer.running_var.double(), var, **tolerance)
    assert layer.num_batches_tracked == len(maps)


@pytest.mark.parametrize("pooled", [False, True])
def test_empty_batches_count_for_nothing(pooled):
    layer, maps = SwitchableNorm2d(6), batches()
    fusednorm.average_statistics(layer, [maps[0], maps[0][:0], maps[1], maps[0][..., :0], maps[2]], pooled)
    expect(layer, maps, pooled, rtol=1e-5, atol=1e-5)


class Branches(nn.Module):
    """One layer in every batch, one in some, one twice in each."""

    def __init__(self):
        super().__init__()
        self.always, self.twice = SwitchableNorm2d(6), SwitchableNorm2d(6)
        self.sometimes = fusednorm.RecalibratedNorm(standardizations.Switchable(6), recalibrations.GatherExcite(6))
        self.calls = []

    def forward(self, x, branch=False):
        self.calls.append((x, branch))
        if branch:
            self.sometimes(x)
        self.twice(x + 1)
        self.twice(x * 2)
        return self.always(x)


@pytest.mark.parametrize("pooled", [False, True])
def test_each_layer_by_its_calls(pooled):
    model, maps = Branches(), batches()
    fusednorm.average_statistics(model, [(maps[0], True), (maps[1], False), (maps[2], True)], pooled)
    expect(model.always, maps, pooled, rtol=1e-5, atol=1e-5)
    expect(model.sometimes.standardize, [maps[0], maps[2]], pooled, rtol=1e-5, atol=1e-5)
    expect(model.twice, [y for x in maps for y in (x + 1, x * 2)], pooled, rtol=1e-5, atol=1e-5)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_layer_that_never_ran():
    """By name; and nothing is changed."""
    model = Branches()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"every layer to run on a batch .*, got none in 'sometimes\.standardize'"):
        fusednorm.average_statistics(model, batches())
    with pytest.raises(ValueError, match=r"got none in 'SwitchableNorm2d'"):
        fusednorm.average_statistics(SwitchableNorm2d(6), [torch.randn(0, 6, 5, 3)])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(m.training for m in model.modules())


def test_a_compiled_model():
    """Also one that was compiled, and run, before."""
    torch._dynamo.reset()
    eager = nn.Sequential(SwitchableNorm2d(6, average="batch"), SwitchableNorm2d(6, average="batch"))
    model, maps = torch.compile(copy.deepcopy(eager), backend="aot_eager"), batches()
    model(maps[0])
    for m in (eager, model):
        fusednorm.average_statistics(m, maps)
    for ours, theirs in zip(model.buffers(), eager.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_buffers_are_the_same_tensors():
    layer = SwitchableNorm2d(6)
    before = list(layer.buffers())
    fusednorm.average_statistics(layer, batches())
    assert all(new is old for new, old in zip(layer.buffers(), before, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_16_bit_buffers(dtype):
    """The averages are rounded once: those of many batches are as good as one's."""
    layer = SwitchableNorm2d(6).to(dtype)
    maps = [x.to(dtype) for x in batches(16)]
    fusednorm.average_statistics(layer, maps)
    assert layer.running_mean.dtype == dtype
    expect(layer, maps, rtol=torch.finfo(dtype).eps * 0.51, atol=1e-6, check_dtype=False)


def test_statistics_in_a_head():
    """Attention's BN, which is not called itself: averages over its calls too."""
    layer, maps = fusednorm.AttentiveBatchNorm2d(6, 3), batches()
    singles = []
    for x in maps:
        one = copy.deepcopy(layer)
        fusednorm.average_statistics(one, [x])
        singles.append(one.attention_norm.running_mean)
    fusednorm.average_statistics(layer, maps)
    torch.testing.assert_close(layer.attention_norm.running_mean, torch.stack(singles).mean(0))
    assert layer.attention_norm.num_batches_tracked == 3


def test_forward_called_directly():
    """Once a batch it is seen; twice the first call would be lost."""

    class Direct(nn.Module):
        def __init__(self, times):
            super().__init__()
            self.norm, self.times = SwitchableNorm2d(6), times

        def forward(self, x):
            for _ in range(self.times):
                self.norm.forward(x)

    model, maps = Direct(1), batches()
    fusednorm.average_statistics(model, maps)
    expect(model.norm, maps, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="'norm' to be called as a module"):
        fusednorm.average_statistics(Direct(2), maps)
