"""What a user's head may not do, said plainly, and what it may: write to its moments, be any callable."""

import re

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm.functional import fused_norm
from tests.cases import BACKENDS, maps_like

from .test_own_head import Gated


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, mean, var):
        return self.what(mean, var)


OUTSIDE = torch.ones(6, requires_grad=True)
WRONG = [
    (lambda m, v: m, TypeError, "tuple (scale, shift) of tensors, got Tensor"),
    (lambda m, v: [m, v], TypeError, "tuple (scale, shift) of tensors, got list"),
    (lambda m, v: (m, v, v), TypeError, "tuple (scale, shift) of tensors, got (Tensor, Tensor, Tensor)"),
    (lambda m, v: (m, 1.0), TypeError, "tuple (scale, shift) of tensors, got (Tensor, float)"),
    (lambda m, v: (m[:, :2], v), ValueError, "scale to broadcast to (4, 6), got shape (4, 2)"),
    (lambda m, v: (m, v[..., None]), ValueError, "shift to broadcast to (4, 6), got shape (4, 6, 1)"),
    (lambda m, v: None, TypeError, "tuple (scale, shift) of tensors, got NoneType"),
    (lambda m, v: (m * 1j, v), TypeError, "scale to be real, got complex64"),
    (lambda m, v: (m * OUTSIDE, v), ValueError, "among its parameters, scale closes over one"),
    (lambda m, v: (m, v + OUTSIDE), ValueError, "among its parameters, shift closes over one"),
]


@pytest.mark.parametrize(("what", "kind", "words"), WRONG, ids=[words for *_, words in WRONG])
@pytest.mark.parametrize("module", [False, True], ids=["function", "module"])
def test_wrong_heads(module, what, kind, words):
    layer = fusednorm.FusedNorm(Returns(what) if module else lambda m, v: what(m, v))
    for _ in range(2):  # and again: the first failure is no licence
        with pytest.raises(kind, match="head: expected .*" + re.escape(words)):
            layer(torch.randn(4, 6, 5, 3))


@pytest.mark.parametrize(("what", "kind", "words"), WRONG, ids=[words for *_, words in WRONG])
@pytest.mark.parametrize("module", [False, True], ids=["function", "module"])
def test_wrong_heads_compiled(module, what, kind, words):
    """Where the first call is a compiled one: said while it is traced, by an error that quotes ours."""
    torch._dynamo.reset()
    layer = fusednorm.FusedNorm(Returns(what) if module else lambda m, v: what(m, v))
    x = torch.randn(4, 6, 5, 3, requires_grad=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=kind.__name__ + r".*head: expected .*" + re.escape(words)):
        torch.compile(layer, fullgraph=True, backend="aot_eager")(x)
    with pytest.raises(kind, match="head: expected .*" + re.escape(words)):
        torch.compile(layer, backend="aot_eager")(x)


@pytest.mark.parametrize("result", [None, 1.0], ids=str)
def test_wrong_later(result):
    """The check of the first pass is not the last word on what a head returns."""
    results = [(torch.ones(6), torch.zeros(6))] * 2  # of the check, and of the pass
    layer = fusednorm.FusedNorm(lambda mean, var: results.pop() if results else result)
    layer(torch.randn(4, 6, 5, 3))
    with pytest.raises(TypeError, match=r"head: expected it to return a tuple \(scale, shift\) of tensors, got "):
        layer(torch.randn(4, 6, 5, 3))


def in_place(mean, var, weight):
    inv = var.add_(1e-5).rsqrt_() * weight
    return inv, mean.neg_() * inv


def out_of_place(mean, var, weight):
    inv = torch.rsqrt(var + 1e-5) * weight
    return inv, -mean * inv


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_heads_may_write_to_the_moments(backend, dtype):
    """They are lent copies: result and gradients, of gradients too, are as without."""
    weight = torch.rand(6, dtype=dtype, requires_grad=True)
    x = maps_like(4, 6, 5, 3).to(dtype).requires_grad_()
    found = []
    for head in (in_place, out_of_place):
        with fusednorm.use_backend(backend):
            y = fused_norm(x, head, weight, act="silu")
            first = torch.autograd.grad(y.square().sum(), (x, weight), create_graph=True)
            found.append((y, *first, *torch.autograd.grad(first[0].square().sum(), (x, weight))))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_heads_may_not_write_to_parameters():
    with pytest.raises(ValueError, match="head: expected it to leave its parameters as they are"):
        fused_norm(torch.randn(4, 6, 5, 3), lambda m, v, w: (v * w.exp_(), m), torch.ones(6))


class Slotted:
    __slots__ = ()

    def __call__(self, mean, var):
        return torch.rsqrt(var + 1e-5), mean


class Unhashable(Slotted):
    __hash__ = None

    def __eq__(self, other):
        return True


@pytest.mark.parametrize("head", [Slotted(), Unhashable()], ids=["slots", "no hash"])
def test_any_callable(head):
    x = torch.randn(4, 6, 5, 3, requires_grad=True)
    for _ in range(2):
        y = fused_norm(x, head)
        y.sum().backward()
    torch.testing.assert_close(y, fused_norm(x, lambda m, v: (torch.rsqrt(v + 1e-5), m)))
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: fused_norm(x, head), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), y)


def test_equal_is_not_checked():
    """A head that says it equals another is still itself."""

    class Always(Unhashable):
        def __init__(self, outside):
            self.outside = outside

        def __call__(self, mean, var):
            return var * self.outside, mean

    x = torch.randn(4, 6, 5, 3)
    good, bad = Always(OUTSIDE.detach()), Always(OUTSIDE)
    fused_norm(x, good)
    with pytest.raises(ValueError, match="scale closes over one"):
        fused_norm(x, bad)


def test_bad_input():
    x, head = torch.randn(4, 6, 5, 3), Gated(6)
    with pytest.raises(TypeError, match=r"parameters: expected none beside an nn.Module"):
        fused_norm(x, head, torch.ones(6))
    with pytest.raises(TypeError, match=r"head: expected an nn.Module or a function of mean and var, got Tensor"):
        fused_norm(x, torch.ones(6))
    with pytest.raises(ValueError, match=r"act: expected one of .*, got 'tanh'"):
        fusednorm.FusedNorm(head, "tanh")
    with pytest.raises(ValueError, match="residual: expected x's shape"):
        fusednorm.FusedNorm(head)(x, x[:1])
    with pytest.raises(TypeError, match="x: expected float32, float64, bfloat16 or float16, got int64"):
        fusednorm.FusedNorm(head)(torch.ones(4, 6, dtype=torch.long))
