"""Averaged weights: torch's AveragedModel, and update_bn, which torch's own is of torch's BatchNorms alone."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import swa_utils

import fusednorm
from tests.stack.layers import network


def images(n=4, size=6):
    return [torch.randn(size, 3, 7, 7) + i for i in range(n)]


def plain(norm1d, norm2d, **options):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        norm2d(8, **options),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        norm2d(6, momentum=None),
        nn.Flatten(),
        norm1d(6 * 9, affine=False),
    )


def ours_and_torchs(**options):
    ours = plain(fusednorm.BatchNorm1d, fusednorm.BatchNorm2d, **options)
    theirs = plain(nn.BatchNorm1d, nn.BatchNorm2d, **options)
    theirs.load_state_dict(ours.state_dict())
    for image in images(2):
        ours(image), theirs(image)
    return ours, theirs


WRAPPED = {
    "tensors": lambda loader: loader,
    "tuples": lambda loader: [(x, torch.zeros(len(x))) for x in loader],
    "lists": lambda loader: [[x, None] for x in loader],
}


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_like_torch(wrapped, device):
    """Every buffer as torch's, momenta and modes as before."""
    ours, theirs = ours_and_torchs(momentum=0.3)
    loader = WRAPPED[wrapped](images())
    fusednorm.update_bn(loader, ours, device)
    swa_utils.update_bn(loader, theirs, device)
    for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert [m.momentum for m in ours if hasattr(m, "momentum")] == [0.3, None, 0.1]
    assert ours.training


def test_torchs_own_layers():
    """A network of both: torch's BatchNorms are updated too. torch's update_bn leaves ours alone, which is why."""
    both = nn.Sequential(nn.BatchNorm2d(3), fusednorm.BatchNorm2d(3))
    for x in images(2):
        both(x)
    before = both[1].running_mean.clone()
    swa_utils.update_bn(images(), both)
    assert both[0].momentum == 0.1
    assert not torch.equal(both[1].running_mean, before), "moved by momentum, not reset"
    assert both[1].num_batches_tracked == 6
    loader = images()
    fusednorm.update_bn(loader, both)
    every = torch.cat(loader)
    torch.testing.assert_close(both[0].running_mean, every.mean((0, 2, 3)))
    assert both[0].num_batches_tracked == both[1].num_batches_tracked == 4


def test_modes_of_each_module():
    """Also after an error, and of modules whose mode is not the network's."""
    ours, _ = ours_and_torchs()
    ours.eval()
    ours[4].train()

    def failing():
        yield from images(1)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        fusednorm.update_bn(failing(), ours)
    assert [m.training for m in ours] == [False] * 4 + [True] + [False] * 2
    assert ours[1].momentum == 0.1


def test_switchable_and_attention():
    """Layers within layers, and a SwitchableNorm that leaves its statistics to a batch average."""
    model = nn.Sequential(fusednorm.AttentiveBatchNorm2d(3, 4), fusednorm.SwitchableNorm2d(3, average="batch"))
    loader = images()
    fusednorm.update_bn(loader, model)
    attentive, switchable = model
    torch.testing.assert_close(attentive.running_mean, torch.cat(loader).mean((0, 2, 3)))
    for m in (attentive, attentive.attention_norm, switchable):
        assert m.num_batches_tracked == 4
        assert m.momentum == 0.1
    assert switchable.average == "batch"
    before = switchable.running_mean.clone()
    assert not torch.equal(before, torch.zeros(3))
    model(loader[0])
    assert torch.equal(switchable.running_mean, before)


def test_nothing_to_do():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), fusednorm.GroupNorm(2, 4))
    fusednorm.update_bn(iter(()), model)

    class Unread:
        def __iter__(self):
            raise AssertionError("read")

    fusednorm.update_bn(Unread(), model)


@pytest.mark.parametrize("use_buffers", [True, False])
def test_averaged_model(use_buffers):
    """An average of weights (EMA), of buffers too or not; then evaluated with statistics of its own."""
    model = network()
    average = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=use_buffers)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    expected, expected_mean = None, None
    for x in images(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        average.update_parameters(model)
        now = [p.detach().clone() for p in model.parameters()]
        expected = now if expected is None else [a + (b - a) * 0.5 for a, b in zip(expected, now, strict=True)]
        mean = model.norm.running_mean.clone()
        expected_mean = mean if expected_mean is None or not use_buffers else (expected_mean + mean) / 2
    for a, b in zip(average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(a.detach(), b)
    torch.testing.assert_close(average.module.norm.running_mean, expected_mean)  # without: the model's own
    loader = images()
    fusednorm.update_bn(loader, average)
    alone = copy.deepcopy(average.module)
    for m in alone.modules():
        if hasattr(m, "reset_running_stats"):
            m.reset_running_stats()
            m.momentum = None
    for x in loader:
        alone.train()(x)
    for a, b in zip(average.module.buffers(), alone.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_frozen_layers_keep_theirs():
    model = torch.nn.Sequential(fusednorm.freeze(fusednorm.BatchNorm2d(3)), fusednorm.BatchNorm2d(3))
    fusednorm.update_bn([torch.randn(4, 3, 5, 5) + 2], model)
    assert torch.equal(model[0].running_mean, torch.zeros(3))
    assert (model[1].running_mean > 1).all()
