"""A user's head between the fused passes: functions and modules, their gradients, errors, and docs/own_layer.md."""

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm.functional import fused_norm
from tests.cases import ACTS, BACKENDS, LAYOUTS, QUICK, assert_like_reference, laid_out, maps_like

from .test_compile import compiled_and_eager

PAGE = Path(__file__).parents[2] / "docs" / "own_layer.md"


class Gated(nn.Module):
    """Over the batch, with a gate from a matrix product of both moments; reads a buffer, and writes another."""

    def __init__(self, channels):
        super().__init__()
        self.linear = nn.Linear(2 * channels, channels)
        self.weight = nn.Parameter(torch.randn(channels))
        self.register_buffer("level", torch.rand(channels))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, mean, var):
        self.calls.add_(1)
        mu = mean.mean(0)
        inv = torch.rsqrt((var + (mean - mu).square()).mean(0) + 1e-5)
        gate = torch.sigmoid(self.linear(torch.cat([mean, torch.sqrt(var + 1e-3)], 1)))
        scale = gate * self.weight * inv
        return scale, self.level - scale * mu


class Plain(nn.Module):
    """The same on the whole map."""

    def __init__(self, head, act=None):
        super().__init__()
        self.head, self.act = head, act

    def forward(self, x, residual=None):
        dims = tuple(range(2, x.dim()))
        mean = x.mean(dims) if dims else x
        var = x.var(dims, correction=0) if dims else torch.zeros_like(x)
        scale, shift = (t.reshape(*x.shape[:2], *(1 for _ in dims)) for t in self.head(mean, var))
        y = scale * x + shift
        return fusednorm.reference.activate(y, residual, self.act)


def layers(channels, act=None):
    fused = fusednorm.FusedNorm(Gated(channels), act)
    return fused, Plain(copy.deepcopy(fused.head), act)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 7), (4, 6, 5, 3), (3, 6, 2, 3, 4)], ids=lambda s: f"{len(s)}-D")
@pytest.mark.parametrize("backend", QUICK)
def test_module(backend, shape, act, layout):
    """Result, and gradients of x, residual and the head's parameters."""
    assert_like_reference(backend, *layers(6, act), laid_out(maps_like(*shape), layout))


def scaled(mean, var, weight, bias):
    scale = weight * torch.rsqrt(var + mean.square() + 1e-6)
    return scale, bias


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_function(backend, layout):
    """With its parameters as arguments, one of which wants no gradient; against filter response normalization."""
    x = laid_out(maps_like(4, 6, 5, 3), layout)
    residual = torch.randn_like(x)
    plain = fusednorm.reference.FilterResponseNorm(6, threshold=False).double()
    weight, bias = plain.weight.detach().clone().requires_grad_(), plain.bias.detach().clone()
    inputs = [t.requires_grad_() for t in (x, residual)]
    with fusednorm.use_backend(backend):
        y = fused_norm(x, scaled, weight, bias, residual=residual)
        found = torch.autograd.grad(y.square().sum(), [*inputs, weight])
    expected = torch.autograd.grad(plain(x, residual).square().sum(), [*inputs, plain.weight])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    with fusednorm.use_backend(backend):
        y = fused_norm(x, lambda mean, var: (torch.rsqrt(var + mean.square() + 1e-6), mean * 0), act="relu")
    torch.testing.assert_close(y, plain(x).relu(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_broadcast(backend):
    """scale and shift may be (C), (N, 1), or a number's shape."""
    x = maps_like(4, 6, 5, 3)
    heads = {
        "(C)": (lambda m, v: (v.mean(0), m.mean(0)), lambda m, v: (v.mean(0, True), m.mean(0, True))),
        "(N, 1)": (lambda m, v: (v.mean(1, True), m.mean(1, True)),) * 2,
        "()": (lambda m, v: (v.mean(), m.mean()), lambda m, v: (v.mean().view(1, 1), m.mean().view(1, 1))),
    }
    for name, (head, same) in heads.items():
        m, v = x.mean((2, 3)), x.var((2, 3), correction=0)
        scale, shift = (t.expand(4, 6)[..., None, None] for t in same(m, v))
        with fusednorm.use_backend(backend):
            torch.testing.assert_close(fused_norm(x, head), scale * x + shift, msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS)
def test_types(backend, dtype):
    """Heads see float32 and their parameters in float32, whatever those are; gradients have the parameters' type."""
    fused, plain = layers(6)
    seen = []
    fused.head.linear.register_forward_hook(lambda module, args, y: seen.append((args[0].dtype, y.dtype)))
    fused.to(dtype), plain.double().load_state_dict(fused.state_dict())
    x = maps_like(4, 6, 5, 3).to(dtype)
    with fusednorm.use_backend(backend):
        y = fused(x)
        y.float().square().sum().backward()
    assert set(seen) == {(torch.float32, torch.float32)}
    assert y.dtype == fused.head.weight.grad.dtype == dtype
    exact = plain(x.double())
    assert (y.double() - exact).abs().max() <= 2 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast(backend):
    fused, plain = layers(8, "relu")
    conv = nn.Conv2d(3, 8, 3)
    seen = set()
    fused.head.linear.register_forward_hook(lambda module, args, y: seen.add(y.dtype))
    with fusednorm.use_backend(backend), torch.autocast("cpu", torch.bfloat16):
        z = conv(torch.randn(4, 3, 9, 9))
        y = fused(z)
        y.square().sum().backward()
    assert z.dtype == y.dtype == torch.bfloat16
    assert torch.float32 in seen
    exact = plain.double()(z.double())
    # One rounding to bfloat16, of the largest entry; Triton's interpreter cuts off instead.
    rounding = 2**-7 if backend == "triton" else 2**-8
    assert (y.double() - exact).abs().max() <= exact.abs().max() * rounding
    assert conv.weight.grad.abs().sum() > 0
    assert fused.head.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_buffers_are_read_only(backend):
    layer, _ = layers(6)
    before = copy.deepcopy(layer.state_dict())
    with fusednorm.use_backend(backend):
        layer(torch.randn(4, 6, 5, 3, requires_grad=True)).sum().backward()
    assert all(torch.equal(t, before[name]) for name, t in layer.state_dict().items())


@pytest.mark.parametrize("backend", QUICK)
def test_gradcheck(backend):
    """Both orders, parameters and x."""
    layer, _ = layers(4, "silu")
    layer.double()
    names = [name for name, _ in layer.named_parameters()]

    def call(x, residual, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, residual))

    inputs = [maps_like(3, 4, 2, 3), torch.randn(3, 4, 2, 3).double(), *(p.detach() for p in layer.parameters())]
    inputs = [t.requires_grad_() for t in inputs]
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradcheck(call, inputs)
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", [pytest.param(b, marks=[pytest.mark.slow] * (b != "cpu")) for b in BACKENDS])
def test_compile(backend, layout):
    """One graph, for module and function; the same gradients of x, residual and parameters."""
    layer, _ = layers(8, "relu")
    x, residual = (laid_out(torch.randn(4, 8, 5, 3), layout) for _ in range(2))
    compiled_and_eager(backend, layer, x, residual)


class OfFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))

    def forward(self, x, residual):
        return fused_norm(x, scaled, self.weight, self.bias, residual=residual, act="relu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_compile_a_function(backend):
    compiled_and_eager(backend, OfFunction(), torch.randn(4, 8, 5, 3), torch.randn(4, 8, 5, 3))


def test_transforms():
    """vmap over grad, and jvp: as the plain layer's."""
    fused, plain = (layer.double() for layer in layers(4))
    fused.head.calls = plain.head.calls = None  # neither lets a buffer be written to
    forward = Gated.forward

    def silent(self, mean, var):
        self.calls = torch.zeros((), dtype=torch.long)
        return forward(self, mean, var)

    x, tangent = maps_like(3, 4, 2, 3), torch.randn(3, 4, 2, 3).double()
    try:
        Gated.forward = silent
        ours, theirs = (torch.func.jvp(layer, (x,), (tangent,))[1] for layer in (fused, plain))
    finally:
        Gated.forward = forward
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(0, 6, 4, 4), (3, 6, 0, 4)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty(backend, shape):
    layer, _ = layers(6, "relu")
    x = torch.randn(shape, requires_grad=True)
    with fusednorm.use_backend(backend):
        layer(x).sum().backward()
    assert x.grad.shape == shape
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in layer.parameters())


def test_copies():
    layer, _ = layers(6, "relu")
    x = torch.randn(4, 6, 5, 3)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    assert set(layer.state_dict()) == {f"head.{name}" for name in Gated(6).state_dict()}
    assert "act=relu" in repr(layer)


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("backend", QUICK)
def test_page(backend):
    """docs/own_layer.md: the layer is 20 lines, runs, and is what the plain one beside it is."""
    layer, check = blocks()
    assert len(layer.strip().splitlines()) <= 20
    names = {}
    with fusednorm.use_backend(backend):
        exec(compile(layer + check, str(PAGE), "exec"), names)
        head = names["layer"].head
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        x, residual = (torch.randn(4, 64, 5, 3) for _ in range(2))
        torch.testing.assert_close(names["layer"](x, residual), names["plain"](head, x, residual), rtol=1e-4, atol=1e-5)
