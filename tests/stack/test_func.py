"""torch.func: grad, vjp, jvp, vmap, functional_call and ensembles, against autograd and loops."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vjp, vmap

import fusednorm
from tests.stack.layers import KINDS, OVER_BATCH, OWN, PER_SAMPLE, layer, maps

EVERY = [*KINDS, OWN]


def exact(kind, training):
    """In float64; layers with running statistics in evaluation, or without any."""
    return layer(kind, act="silu").double().train(training)


def wide(*shape):
    return tuple(t.double() for t in maps(*shape))


def parameters(module):
    return {name: p.detach() for name, p in module.named_parameters()}


def loss(module, parameters, x, residual):
    return functional_call(module, parameters, (x, residual)).square().sum()


@pytest.mark.parametrize("kind", EVERY)
def test_gradients(kind):
    """grad and vjp give autograd's gradients, jvp the product with them."""
    module = exact(kind, training=kind in (*PER_SAMPLE, OWN))
    own, (x, residual) = parameters(module), wide()
    found = grad(lambda p, *t: loss(module, p, *t), argnums=(0, 1, 2))(own, x, residual)
    leaves = [x.clone().requires_grad_(), residual.clone().requires_grad_()]
    module(*leaves).square().sum().backward()
    truth = {name: p.grad for name, p in module.named_parameters()}, *(t.grad for t in leaves)
    torch.testing.assert_close(found, truth)
    y, pull_back = vjp(lambda x: loss(module, own, x, residual), x)
    torch.testing.assert_close(pull_back(torch.ones_like(y))[0], truth[1])
    tangent = torch.randn_like(x)
    _, slope = jvp(lambda x: loss(module, own, x, residual), (x,), (tangent,))
    torch.testing.assert_close(slope, (truth[1] * tangent).sum())


@pytest.mark.parametrize("kind", EVERY)
def test_vmap_over_samples(kind):
    """A sample at a time is the batch, where samples don't meet; with gradients of each sample."""
    module = exact(kind, training=kind in (*PER_SAMPLE, OWN))
    own, (x, residual) = parameters(module), wide()
    y = vmap(lambda *t: functional_call(module, own, tuple(a[None] for a in t))[0])(x, residual)
    torch.testing.assert_close(y, module(x, residual).detach())
    each = vmap(grad(lambda p, *t: loss(module, p, *(a[None] for a in t))), in_dims=(None, 0, 0))(own, x, residual)
    for i in range(len(x)):
        one = grad(lambda p, i=i: loss(module, p, x[i : i + 1], residual[i : i + 1]))(own)
        torch.testing.assert_close({name: t[i] for name, t in each.items()}, one)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", EVERY)
def test_ensemble(kind, training):
    """stack_module_state and vmap: results and running statistics of every member."""
    members = [exact(kind, training) for _ in range(3)]
    own, buffers = stack_module_state(copy.deepcopy(members))
    template, (x, residual) = copy.deepcopy(members[0]), wide()
    y = vmap(lambda p, b: functional_call(template, (p, b), (x, residual)))(own, buffers)
    for i, member in enumerate(members):
        torch.testing.assert_close(y[i], member(x, residual))
        for name, b in member.named_buffers():
            torch.testing.assert_close(buffers[name][i], b)


@pytest.mark.parametrize("kind", [*OVER_BATCH, "torch's"])
def test_training(kind):
    """Running statistics are updated in place: torch says of ours, as of its own, to make them arguments."""
    module = nn.BatchNorm2d(8).double() if kind == "torch's" else exact(kind, training=True)
    own, x = parameters(module), wide()[0]
    with pytest.raises(RuntimeError, match="explicitly accept the mutated Tensor"):
        grad(lambda p: functional_call(module, p, (x,)).square().sum())(own)
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    alone = copy.deepcopy(module)
    found = grad(lambda p, b: functional_call(module, (p, b), (x,)).square().sum())(own, buffers)
    alone(x).square().sum().backward()
    for name, p in alone.named_parameters():
        torch.testing.assert_close(found[name], p.grad)
    for name, b in alone.named_buffers():
        torch.testing.assert_close(buffers[name], b)


def test_training_without_statistics():
    module = fusednorm.BatchNorm2d(8, track_running_stats=False).double()
    own, x = parameters(module), wide()[0]
    found = jacrev(lambda p: functional_call(module, p, (x,)).square().sum())(own)
    module(x).square().sum().backward()
    torch.testing.assert_close(found, {name: p.grad for name, p in module.named_parameters()})


@pytest.mark.parametrize("kind", OVER_BATCH)
def test_vmap_in_training(kind):
    """One set of running statistics can't take every call's."""
    module, x = layer(kind), torch.randn(3, 4, 8, 6, 5)
    before = [b.clone() for b in module.buffers()]
    with pytest.raises(RuntimeError, match="running statistics: expected one of each for every call under vmap"):
        vmap(lambda x: functional_call(module, parameters(module), (x,)))(x)
    for a, b in zip(before, module.buffers(), strict=True):
        assert torch.equal(a, b)


def test_inplace():
    module = fusednorm.GroupNorm(2, 8, inplace=True)
    with pytest.raises(RuntimeError, match=r"inplace: expected no torch\.func transform"):
        vmap(lambda x: module(x[None])[0])(torch.randn(4, 8, 6, 5))
