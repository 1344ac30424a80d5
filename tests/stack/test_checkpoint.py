"""torch.utils.checkpoint: the gradients of the same network without, and what happens to running statistics."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

import fusednorm
from tests.stack.layers import KINDS, OWN, layer, maps, network

REENTRANT = pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "non-reentrant"])


@REENTRANT
@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_layer(kind, reentrant):
    """The same bits."""
    eager = layer(kind)
    kept, inputs = copy.deepcopy(eager), maps()
    # autograd.grad is not for reentrant checkpoints
    found = []
    for module, run in ((eager, lambda *t: checkpoint(eager, *t, use_reentrant=reentrant)), (kept, kept)):
        leaves = [t.detach().requires_grad_() for t in inputs]
        y = run(*leaves)
        y.square().sum().backward()
        found.append([y.detach(), *(t.grad for t in (*leaves, *module.parameters()))])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


@REENTRANT
@pytest.mark.parametrize("preserve", [True, False])
def test_network(reentrant, preserve):
    eager = network()
    kept, x = copy.deepcopy(eager), torch.randn(4, 3, 8, 8)
    for model in (eager, kept):
        y = model.norm(model.stem(x))
        if model is eager:
            y = checkpoint_sequential(model.blocks, 2, y, use_reentrant=reentrant, preserve_rng_state=preserve)
        else:
            y = model.blocks(y)
        model.classes(y.mean((2, 3))).square().sum().backward()
    for a, b in zip(eager.parameters(), kept.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


@REENTRANT
@pytest.mark.parametrize("norm", [fusednorm.BatchNorm2d, fusednorm.SwitchableNorm2d, nn.BatchNorm2d])
def test_statistics(norm, reentrant):
    """As nn.BatchNorm's, they move again when the region is calculated again. Without reentrance torch stops once it
    has all that backward needs, which for a region's last layer of ours is before its statistics move."""
    region = nn.Sequential(norm(8), nn.Conv2d(8, 8, 1), norm(8))
    checkpoint(region, torch.randn(4, 8, 6, 5, requires_grad=True), use_reentrant=reentrant).sum().backward()
    last = 1 if norm is not nn.BatchNorm2d and not reentrant else 2
    assert [int(m.num_batches_tracked) for m in (region[0], region[2])] == [2, last]


def test_twice_moved():
    """By the same batch: (1 - momentum)^2 of the old is left."""
    norm, x = fusednorm.BatchNorm2d(8), torch.randn(4, 8, 6, 5)
    checkpoint(norm, x.requires_grad_(), use_reentrant=True).sum().backward()
    torch.testing.assert_close(norm.running_mean, (1 - 0.9**2) * x.detach().mean((0, 2, 3)))
