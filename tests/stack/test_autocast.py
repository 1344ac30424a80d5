"""autocast to 16 bits, with a GradScaler: types, statistics in float32, steps that are skipped."""

import copy

import pytest
import torch
from torch import nn

import fusednorm
from tests.stack.layers import KINDS, OWN, layer, network

TYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


@TYPES
@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_types(kind, dtype):
    """A layer gives x's type, under autocast too; parameters, their gradients and statistics are float32, and what is
    calculated is what the same layer calculates of the same map in float64, rounded."""
    eager = layer(kind, act="silu")
    exact = copy.deepcopy(eager).double()
    conv = nn.Conv2d(3, 8, 3)
    x = torch.randn(4, 3, 8, 7)
    with torch.autocast("cpu", dtype):
        z = conv(x)
        y = eager(z)
        assert eager(x.new_ones(4, 8, 2, 2)).dtype == torch.float32
    assert z.dtype == y.dtype == dtype
    y.float().sum().backward()
    assert {p.grad.dtype for p in eager.parameters()} == {torch.float32}
    assert {b.dtype for b in eager.buffers()} <= {torch.float32, torch.long}
    truth = exact(z.detach().double())
    error = (y.detach().double() - truth).abs().max()
    assert error <= truth.abs().max() * torch.finfo(dtype).eps, "one rounding"


@TYPES
def test_training(dtype):
    """A step's loss and gradients lie near float32's."""
    model, images = network(), torch.randn(4, 3, 8, 8)
    exact = copy.deepcopy(model)
    with torch.autocast("cpu", dtype):
        loss = model(images).float().square().mean()
    loss.backward()
    truth = exact(images).square().mean()
    truth.backward()
    assert abs(loss - truth) <= 0.1 * truth
    ours, theirs = (torch.cat([p.grad.flatten() for p in m.parameters()]) for m in (model, exact))
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.9


def test_scaled_training():
    """The scale, a power of two, cancels: a network's steps are those without a scaler."""
    model, found = network(), []
    for enabled in (True, False):
        own = copy.deepcopy(model)
        optimizer = torch.optim.SGD(own.parameters(), 0.1, momentum=0.9)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1, enabled=enabled)
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(own(torch.randn(4, 3, 8, 8)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == (2.0**13 if enabled else 1)
        found.append(own.state_dict())
    torch.testing.assert_close(*found)
    assert any(not torch.equal(a, b) for a, b in zip(found[0].values(), model.state_dict().values(), strict=True))


def batch_norms():
    norms = (lambda: fusednorm.AttentiveBatchNorm2d(8, 3, act="relu"), lambda: fusednorm.BatchNorm2d(8, act="relu"))
    ours = [nn.Sequential(nn.Conv2d(3, 8, 3), norm(), nn.Conv2d(8, 4, 3)) for norm in norms]
    return [*ours, nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), nn.Conv2d(8, 4, 3))]


@TYPES
@pytest.mark.parametrize("which", range(3), ids=["attentive", "batch", "torch's"])
def test_skipped_step(which, dtype):
    """A gradient that overflows: the scaler skips the step, parameters stay, running statistics have moved all the
    same, for the forward pass did. So do nn.BatchNorm's."""
    model = batch_norms()[which]
    norm = model[1][0] if which == 2 else model[1]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=100)
    for skipped in (False, True, False):
        before = [p.detach().clone() for p in model.parameters()]
        mean, count = norm.running_mean.clone(), int(norm.num_batches_tracked)
        scale = scaler.get_scale()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = model(torch.randn(4, 3, 8, 8)).float().square().mean()
        scaler.scale(loss * float("inf") if skipped else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
        assert not any(moved) if skipped else any(moved)
        assert scaler.get_scale() == (scale / 2 if skipped else scale)
        assert int(norm.num_batches_tracked) == count + 1
        assert not torch.equal(norm.running_mean, mean)
        assert norm.running_mean.isfinite().all()
