"""inplace=True: errors where x may not be written to, before anything is."""

import copy
import itertools

import pytest
import torch

import fusednorm
from tests.cases import QUICK
from tests.modules.inplace_cases import KINDS, PAIR, twins

OVERLAPS = {
    "a row further": lambda b: (b[..., :-1, :], b[..., 1:, :]),
    "the other way": lambda b: (b[..., 1:, :], b[..., :-1, :]),
    "two channels on": lambda b: (b[:, :4], b[:, 2:6]),
    "transposed": lambda b: (b[:, :4], b[:, :4].mT),
    "expanded": lambda b: (b[:, :4], b[:1, :1, :1, :1].expand_as(b[:, :4])),
}


@pytest.mark.parametrize("name", OVERLAPS)
@torch.no_grad()
def test_residuals_that_share_some_of_x(name):
    buffer = torch.randn(3, 8, 6, 6)
    x, residual = OVERLAPS[name](buffer)
    before = buffer.clone()
    with pytest.raises(RuntimeError, match="inplace: expected a residual with memory of its own"):
        fusednorm.BatchNorm2d(x.shape[1], inplace=True)(x, residual)
    assert torch.equal(buffer, before)


def test_overlap_is_told_exactly():
    """Against the addresses themselves."""
    from fusednorm.inplace import _overlap

    buffer = torch.empty(400)
    for sizes, strides in (
        ((2, 3, 4), (90, 12, 2)),
        ((3, 2, 5), (7, 40, 1)),
        ((2, 2, 2), (1, 5, 40)),
        ((4, 1, 3), (3, 9, 1)),
    ):
        x = buffer.as_strided(sizes, strides, 100)
        here = set(_addresses(x))
        for offset in range(200):
            other = buffer.as_strided(sizes, strides, offset)
            shared = offset != 100 and not here.isdisjoint(_addresses(other))
            assert _overlap(x, other) == shared, (sizes, strides, offset)


def _addresses(t):
    for index in itertools.product(*map(range, t.shape)):
        yield t.storage_offset() + sum(i * s for i, s in zip(index, t.stride(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(2, 1, 3, 3).expand(2, 8, 3, 3),
        lambda: torch.randn(1, 8, 3, 3).expand(2, 8, 3, 3),
        lambda: torch.randn(60).as_strided((2, 8, 2, 3), (6, 3, 3, 1)),
    ],
    ids=["channels", "samples", "windows"],
)
@torch.no_grad()
def test_values_of_x_that_share_memory(make):
    x = make()
    torch._dynamo.reset()
    layer = fusednorm.BatchNorm2d(8, inplace=True)
    for call in (layer, *([torch.compile(layer, backend="eager")] if 0 in x.stride() else [])):
        with pytest.raises(RuntimeError, match="inplace: expected an x each of whose values has memory of its own"):
            call(x)


WANTED = {
    "x": lambda layer, x, z: x.requires_grad_(),
    "residual": lambda layer, x, z: z.requires_grad_(),
    r"a parameter of shape \(8,\)": lambda layer, x, z: layer.bias.requires_grad_(),
}


@pytest.mark.parametrize("what", WANTED)
@pytest.mark.parametrize("backend", QUICK)
def test_what_wants_a_gradient(backend, what):
    layer = fusednorm.BatchNorm2d(8, inplace=True).requires_grad_(False)
    x, residual = torch.randn(2, 8, 3, 3), torch.randn(2, 8, 3, 3)
    WANTED[what](layer, x, residual)
    before = x.detach().clone()
    with fusednorm.use_backend(backend):
        with pytest.raises(
            RuntimeError, match=f"inplace: expected nothing that wants a gradient.* got {what} that does"
        ):
            layer(x, residual)
        assert torch.equal(x, before)
        assert layer.num_batches_tracked == 0
        with torch.no_grad():
            assert layer(x, residual) is x
        layer.requires_grad_(False)
        assert layer(x.detach(), residual.detach()).grad_fn is None  # gradients on, but nothing wants one


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_refuses_gradients(kind):
    over = twins(kind, 4, 8)[1]
    x = torch.randn(3, 8, 4, 4, requires_grad=not list(over.parameters()))
    before = x.detach().clone()
    with pytest.raises(RuntimeError, match="inplace: expected nothing that wants a gradient"):
        over(x)
    assert torch.equal(x, before)


def test_gradients_of_what_is_left():
    """The threshold, the second of two layers, a function's own parameters."""
    x = torch.randn(3, 8, 6, 6)
    before = x.clone()
    frozen = fusednorm.FilterResponseNorm(8, inplace=True)
    frozen.weight.requires_grad_(False), frozen.bias.requires_grad_(False)
    two = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), inplace=True)
    two.standardize.requires_grad_(False), two.recalibrate.requires_grad_(False)
    two.recalibrate.gain.requires_grad_()
    slope = torch.ones((), requires_grad=True)
    own = fusednorm.SqueezeExcite(8, 2, gate=lambda a: torch.sigmoid(slope * a), inplace=True).requires_grad_(False)
    for layer in (frozen, two, own):
        with pytest.raises(RuntimeError, match="inplace: expected nothing that wants a gradient"):
            layer(x)
        assert torch.equal(x, before)


def test_backward_of_others_sees_that_x_has_changed():
    x = torch.randn(2, 8, 3, 3, requires_grad=True)
    z = x.exp()
    loss = (z * z).sum()
    with torch.no_grad():
        fusednorm.BatchNorm2d(8, inplace=True)(z)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_mode():
    layer = fusednorm.BatchNorm2d(8, inplace=True).eval()
    with torch.inference_mode():
        x = torch.randn(2, 8, 3, 3)
        assert layer(x) is x
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"inplace: .* got an inference tensor outside"):
        layer(x)


def test_transforms():
    layer = fusednorm.BatchNorm2d(8, inplace=True).eval().requires_grad_(False)
    x = torch.randn(2, 8, 3, 3)
    for transformed in (
        lambda: torch.func.vmap(layer)(torch.stack([x, x])),
        lambda: torch.func.grad(lambda x: layer(x).sum())(x),
        lambda: torch.func.jvp(layer, (x,), (x,)),
    ):
        torch._dynamo.reset()
        for call in (transformed, torch.compile(transformed, backend="eager")):
            with torch.no_grad(), pytest.raises(RuntimeError, match=r"inplace: expected no torch\.func transform"):
                call()
