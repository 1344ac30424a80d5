"""What people do to modules besides: reparametrize, hook, freeze, accumulate, save elsewhere, optimize fused."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fusednorm
from tests.stack.layers import KINDS, OWN, copies, layer, maps, network

EVERY = pytest.mark.parametrize("kind", [*KINDS, OWN])
WEIGHTED = pytest.mark.parametrize(
    "kind", [k for k in KINDS if k not in ("squeeze-excite", "batch squeeze-excite", "normalization attention")]
)


def backward(module, *inputs):
    """y and the gradients of inputs; those of parameters accumulate."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = module(*leaves)
    y.square().sum().backward()
    return [y.detach(), *(t.grad for t in leaves)]


def grads(module):
    return copies(p.grad for p in module.parameters() if p.grad is not None)


def called_before(kind):
    """A layer whose calls are replayed past Python, where that is built."""
    module = layer(kind)
    for _ in range(3):
        backward(module, *maps())
    module.zero_grad()
    return module


class Softplus(nn.Module):
    def forward(self, t):
        return nn.functional.softplus(t)


@WEIGHTED
def test_parametrize(kind):
    """A parametrized weight is what the layer takes, after calls with another too; gradients reach the original."""
    module, inputs = called_before(kind), maps()
    plain = copy.deepcopy(module)
    parametrize.register_parametrization(module, "weight", Softplus())
    with torch.no_grad():
        plain.weight.copy_(nn.functional.softplus(plain.weight))
    for a, b in zip(backward(module, *inputs), backward(plain, *inputs), strict=True):
        torch.testing.assert_close(a, b)
    original = module.parametrizations.weight.original
    torch.testing.assert_close(original.grad, plain.weight.grad * torch.sigmoid(original.detach()))
    with parametrize.cached():
        torch.testing.assert_close(module(*inputs), plain(*inputs))
    parametrize.remove_parametrizations(module, "weight")
    torch.testing.assert_close(module(*inputs), plain(*inputs))


@WEIGHTED
def test_weight_norm(kind):
    """Of (K, C) weights by rows, of (C) ones by values."""
    module, inputs = called_before(kind), maps()
    plain = copy.deepcopy(module)
    parametrizations.weight_norm(module, "weight", dim=0)
    for a, b in zip(backward(module, *inputs), backward(plain, *inputs), strict=True):
        torch.testing.assert_close(a, b)
    own = module.parametrizations.weight
    assert own.original0.grad.isfinite().all()
    with torch.no_grad():
        own.original0.mul_(2), plain.weight.mul_(2)
    torch.testing.assert_close(module(*inputs), plain(*inputs))


@EVERY
def test_hooks(kind):
    """Forward and full backward hooks, before and after, also set after calls: each is called once, and may change what
    passes."""
    module, inputs, seen = called_before(kind) if kind != OWN else layer(kind), maps(), []
    plain = copy.deepcopy(module)
    handles = [
        module.register_forward_pre_hook(lambda m, args: seen.append("before") or (args[0] * 2, args[1])),
        module.register_forward_hook(lambda m, args, y: seen.append("after") or y * 3),
        module.register_full_backward_pre_hook(lambda m, dy: seen.append("dy")),
        module.register_full_backward_hook(lambda m, dx, dy: seen.append("dx")),
    ]
    ours = backward(module, *inputs)
    assert seen == ["before", "after", "dy", "dx"]
    theirs = backward(lambda x, residual: plain(x * 2, residual) * 3, *inputs)
    for a, b in zip([*ours, *grads(module)], [*theirs, *grads(plain)], strict=True):
        torch.testing.assert_close(a, b)
    for handle in handles:
        handle.remove()
    backward(module, *inputs)
    assert len(seen) == 4


@EVERY
def test_frozen_parameters(kind):
    """Each parameter frozen by itself has no gradient, and the others' stay what they are."""
    module, inputs = layer(kind), maps()
    whole = copy.deepcopy(module)
    expected = backward(whole, *inputs)
    for frozen, _ in whole.named_parameters():
        own = copy.deepcopy(module)
        own.get_parameter(frozen).requires_grad_(False)
        for a, b in zip(backward(own, *inputs), expected, strict=True):
            torch.testing.assert_close(a, b)
        for name, p in own.named_parameters():
            if name == frozen:
                assert p.grad is None
            else:
                torch.testing.assert_close(p.grad, whole.get_parameter(name).grad)
    own = copy.deepcopy(module).requires_grad_(False)
    assert not own(*inputs).requires_grad
    for a, b in zip(backward(own, *inputs), expected, strict=True):
        torch.testing.assert_close(a, b)


@EVERY
def test_accumulation(kind):
    """Gradients of two batches add up; set_to_none drops them, and zeroed ones are filled in place."""
    module, first, second = layer(kind), maps(), maps()
    each = []
    for inputs in (first, second):
        own = copy.deepcopy(module)
        backward(own, *inputs)
        each.append(grads(own))
    for inputs in (first, second):
        backward(module, *inputs)
    for total, a, b in zip(grads(module), *each, strict=True):
        torch.testing.assert_close(total, a + b)
    module.zero_grad(set_to_none=True)
    assert not grads(module)
    backward(module, *first)
    where = [p.grad.data_ptr() for p in module.parameters()]
    module.zero_grad(set_to_none=False)
    backward(module, *first)
    assert [p.grad.data_ptr() for p in module.parameters()] == where
    for a, b in zip(grads(module), each[0], strict=True):
        torch.testing.assert_close(a, b)


@EVERY
def test_inference_mode(kind):
    """In training and evaluation; the layer trains afterwards."""
    module, inputs = layer(kind), maps()
    for training in (True, False):
        module.train(training)
        expected = copy.deepcopy(module)(*inputs)
        with torch.inference_mode():
            y = module(*inputs)
            made_inside = module.eval()(*maps())
        assert torch.equal(y, expected)
        assert y.is_inference()
        assert made_inside.shape == y.shape
    backward(module.train(), *inputs)
    assert all(g.isfinite().all() for g in grads(module))


@EVERY
def test_saved_elsewhere(kind):
    """save_on_cpu, and hooks of one's own: the gradients come from what the hooks give back."""
    module, inputs = called_before(kind) if kind != OWN else layer(kind), maps()
    plain = copy.deepcopy(module)
    expected = [*backward(plain, *inputs), *grads(plain)]
    packed = []

    def pack(t):
        packed.append(t.numel())
        return t.clone()

    for context in (torch.autograd.graph.save_on_cpu(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t)):
        module.zero_grad()
        with context:
            found = backward(module, *inputs)
        for a, b in zip([*found, *grads(module)], expected, strict=True):
            torch.testing.assert_close(a, b)
    assert sum(packed) >= inputs[0].numel()


@EVERY
def test_anomaly_mode(kind):
    """No error of its own, and one where a gradient is NaN."""
    module, inputs = called_before(kind) if kind != OWN else layer(kind), maps()
    with torch.autograd.set_detect_anomaly(True):
        expected = backward(copy.deepcopy(module), *inputs)
        for a, b in zip(backward(module, *inputs), expected, strict=True):
            assert torch.equal(a, b)
        y = module(*(t.requires_grad_() for t in inputs))
        nan = torch.full_like(y, float("nan"))
        with pytest.warns(UserWarning, match=r"Error detected in .*Norm"):
            assert_raises_of_nan(y, nan)


def assert_raises_of_nan(y, dy):
    with pytest.raises(RuntimeError, match="returned nan values"):
        y.backward(dy)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("way", [{"fused": True}, {"foreach": True}], ids=["fused", "foreach"])
def test_optimizers(way, optimizer):
    """The steps of the loop over parameters, (K, C) ones too."""
    models = [network()]
    models.append(copy.deepcopy(models[0]))
    make = getattr(torch.optim, optimizer)
    optimizers = [make(models[0].parameters(), 0.05, **way), make(models[1].parameters(), 0.05, foreach=False)]
    for _ in range(3):
        x = torch.randn(4, 3, 8, 8)
        gradients = torch.autograd.grad(models[1](x).square().mean(), list(models[1].parameters()))
        for model, stepper in zip(models, optimizers, strict=True):
            for p, g in zip(model.parameters(), gradients, strict=True):
                p.grad = g.clone()
            stepper.step()
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        torch.testing.assert_close(a, b)


def test_shared_layer():
    """One layer in two places of a network: gradients add up, statistics move twice."""
    norm, x = fusednorm.AttentiveBatchNorm2d(8, 4), torch.randn(4, 8, 6, 5)
    norm(norm(x)).square().sum().backward()
    assert norm.num_batches_tracked == norm.attention_norm.num_batches_tracked == 2
    assert all(p.grad.isfinite().all() for p in norm.parameters())
