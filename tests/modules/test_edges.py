"""Empty batches, planes of one position, NaN and infinity, inputs left alone."""

import itertools

import pytest
import torch

import fusednorm
from tests.cases import (
    ACTS,
    BACKENDS,
    FURTHER,
    LAYERS,
    LAYOUTS,
    OVER_BATCH,
    channels_last,
    drawn,
    everywhere,
    laid_out,
    pair,
)

EMPTY = ((0, 6, 4, 4), (3, 6, 0, 4), (3, 6, 4, 0))


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch(backend, training, kind, residual, shape):
    empty_batch(backend, training, kind, residual, shape)


@pytest.mark.parametrize(
    ("backend", "kind", "shape", "residual", "training"),
    list(drawn(itertools.product(FURTHER, EMPTY, (False, True), (False, True)), triton=1)),
)
def test_empty_batch_of_further_layers(backend, kind, shape, residual, training):
    empty_batch(backend, training, kind, residual, shape)


def empty_batch(backend, training, kind, residual, shape):
    layer = pair(kind, 4, 6, act="relu")[0].train(training)
    before = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    x = torch.randn(shape, requires_grad=True)
    other = torch.randn(shape, requires_grad=True) if residual else None
    with fusednorm.use_backend(backend):
        y = layer(x, other)
        y.sum().backward()
    assert y.shape == shape
    for t in (x, other) if residual else (x,):
        assert t.grad is not None
        assert t.grad.shape == shape
    for name, parameter in layer.named_parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter)), name
    assert all(torch.equal(buffer, before[name]) for name, buffer in layer.named_buffers())


@pytest.mark.parametrize("attention_input", ["mean", "mean_std", "rsd"])
@pytest.mark.parametrize("kind", ["attentive batch", "attentive group"])
@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_position(backend, dims, kind, attention_input):
    """Finite, and what the docstring says: a standard deviation of sqrt(attention_eps)."""
    fused, plain = pair(kind, dims, 6, attention_input=attention_input)
    x = torch.randn((5, 6) + (1,) * (dims - 2), requires_grad=True)
    with fusednorm.use_backend(backend):
        y = fused(x)
        y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    torch.testing.assert_close(y, plain(x))
    source = fusednorm.heads.Attentive(attention_input).source(x.reshape(5, 6), torch.zeros(5, 6), 1)
    expected = {"mean": 1.0, "mean_std": 1.0, "rsd": 1e-3**-0.5}[attention_input]
    torch.testing.assert_close(source[:, :6], x.reshape(5, 6) * expected)


@pytest.mark.parametrize(
    ("backend", "kind", "dims"), list(drawn(itertools.product(FURTHER, (2, 3, 4)), triton=0, cuda=1))
)
def test_one_position_of_further_layers(backend, kind, dims):
    fused, plain = (layer.double() for layer in pair(kind, dims, 6))
    for training in (True, False):
        fused.train(training), plain.train(training)
        x = torch.randn((5, 6) + (1,) * (dims - 2)).double().requires_grad_()
        with fusednorm.use_backend(backend):
            y = fused(x)
            (gradient,) = torch.autograd.grad(y.square().sum(), x)
        expected = plain(x)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), x)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("backend", "kind", "level", "layout"),
    list(drawn(itertools.product(FURTHER, (0.0, 1.2345e4, 1e9), LAYOUTS), cuda=1)),
)
def test_constant_planes(backend, kind, level, layout):
    """No spread, no harm: results and gradients are finite, and near those of the reference in float64."""
    fused, plain = pair(kind, 4, 6)
    x = laid_out((torch.rand(4, 6, 1, 1) * level + level).expand(4, 6, 7, 5).contiguous(), layout).requires_grad_()
    with fusednorm.use_backend(backend):
        y = fused(x)
        y.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in (x, *fused.parameters()))
    exact = plain.double()(x.detach().double())
    largest = exact.abs().max().item()
    assert (y.double() - exact).abs().max() <= 1e-5 * max(largest, 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_not_finite_in_one_sample(backend, training, kind, layout, value):
    not_finite_in_one_sample(backend, training, kind, layout, value)


@pytest.mark.parametrize(
    ("backend", "kind", "value", "layout", "training"),
    list(drawn(itertools.product(FURTHER, (float("nan"), float("inf")), LAYOUTS, (False, True)))),
)
def test_not_finite_in_further_layers(backend, kind, value, layout, training):
    """The plane of the bad value may be spoiled as a whole, for its mean is the kernels' pivot; and with it the
    sample, where a plane has a say in the others'."""
    across = kind in (
        "squeeze-excite", "batch squeeze-excite", "efficient channel attention", "representative spatial",
        "global response",
    )  # fmt: skip
    where = (1, slice(None) if across else 4)
    not_finite_in_one_sample(backend, training, kind, layout, value, where)


def not_finite_in_one_sample(backend, training, kind, layout, value, may_spoil=None):
    """One bad value in one sample spoils what the mathematics says, no more and no less: as in the reference."""
    options = {"attention_norm": False} if "attentive" in kind else {}
    fused, plain = pair(kind, 4, 12, **options)
    fused.train(training), plain.train(training)
    x = torch.randn(3, 12, 5, 3)
    x[1, 4, 2, 1] = value
    if layout == "channels_last":
        x = channels_last(x)
    with fusednorm.use_backend(backend):
        ours = fused(x.requires_grad_())
        (gradient,) = torch.autograd.grad(ours, x, torch.ones_like(ours))
    a = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    theirs = plain(a)
    (plain_gradient,) = torch.autograd.grad(theirs, a, torch.ones_like(theirs))
    spoiled = torch.zeros(x.shape, dtype=torch.bool)
    if may_spoil is not None:
        spoiled[may_spoil] = True
    for found, expected in ((ours, theirs), (gradient, plain_gradient)):
        assert (found.isfinite() | ~expected.isfinite() | spoiled).all(), "spread too far"
        assert (~found.isnan() | expected.isnan() | spoiled).all(), "NaN where there need be none"
    assert not ours[1, 4, 2, 1].isfinite()
    if kind not in ("batch", "attentive batch", *OVER_BATCH) or not training:
        assert ours[0].isfinite().all()
        assert ours[2].isfinite().all()
        assert not ours[1].isfinite().all()


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_passes_through_activations(backend, act, residual):
    """As torch's activations do in value; the smooth ones in gradient too."""
    x, dy = torch.randn(1, 2, 4, 5), torch.ones(1, 2, 4, 5)
    other = torch.zeros_like(x)
    if residual:
        other[0, 0, 0, 0] = float("nan")
    layer = fusednorm.BatchNorm2d(2, act=act)
    with torch.no_grad():
        layer.bias[1] = float("nan")
    with fusednorm.use_backend(backend):
        y = layer(x.requires_grad_(), other)
    assert y[0, 1].isnan().all()
    assert y[0, 0, 0, 0].isnan() == residual
    assert y[0, 0].isnan().sum() == residual
    with fusednorm.use_backend(backend):
        (dresidual,) = torch.autograd.grad(layer(x, other.requires_grad_()), other, dy)
    assert dresidual[0, 1].isnan().all() == (act in ("silu", "hardswish", "gelu"))


@pytest.mark.parametrize(
    ("backend", "kind", "act"),
    [*itertools.product(BACKENDS, LAYERS, ACTS), *drawn(itertools.product(FURTHER, ("relu", "silu")), cuda=0)],
)
def test_inputs_are_not_written_to(backend, kind, act):
    layer, _ = pair(kind, 4, 6, act=act)
    x, residual, dy = (torch.randn(3, 6, 4, 5) for _ in range(3))
    copies = [t.clone() for t in (x, residual, dy)]
    with fusednorm.use_backend(backend):
        y = layer(x.requires_grad_(), residual.requires_grad_())
        y.backward(dy)
    assert all(torch.equal(t, c) for t, c in zip((x, residual, dy), copies, strict=True))


@pytest.mark.parametrize(("backend", "kind"), everywhere(FURTHER))
def test_gradients_in_other_layouts(backend, kind):
    """dy comes expanded (from a sum), in the other layout, or with gaps; residual in another layout than x."""
    layer, _ = pair(kind, 4, 6, act="relu")
    x, residual, dy = (torch.randn(4, 6, 5, 3) for _ in range(3))

    def gradients(x, residual, dy):
        a, r = x.detach().requires_grad_(), residual.detach().requires_grad_()
        return torch.autograd.grad(layer(a, r), [a, r, *layer.parameters()], dy)

    gaps = torch.zeros(4, 12, 5, 3)
    gaps[:, ::2] = dy
    with fusednorm.use_backend(backend):
        expected = gradients(x, residual, dy)
        for variant in (
            (x, channels_last(residual), channels_last(dy)),
            (channels_last(x), residual, dy),
            (x, residual, gaps[:, ::2]),
            (x.transpose(2, 3).contiguous().transpose(2, 3), residual, dy),
        ):
            for ours, theirs in zip(gradients(*variant), expected, strict=True):
                torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        ones = gradients(x, residual, torch.ones_like(dy))
        for ours, theirs in zip(gradients(x, residual, torch.ones(()).expand_as(dy)), ones, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_every_layer_is_public():
    assert set(fusednorm.modules.__all__) < set(fusednorm.__all__)
    assert all(hasattr(fusednorm, name) for name in fusednorm.__all__)
