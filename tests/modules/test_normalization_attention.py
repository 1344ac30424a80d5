"""The Normalization-Attention module: similarities, embedding, and after a standardization in one call."""

import itertools

import pytest
import torch

import fusednorm
from fusednorm import recalibrations, reference, standardizations
from tests.cases import BACKENDS, LAYOUTS, QUICK, assert_like_reference, drawn, laid_out, maps_like, randomized

SIMILARITIES = ("l1", "squared", "dot", "mean_difference", None)
SHAPES = {2: (5, 6), 3: (4, 6, 11), 4: (4, 6, 5, 3), 5: (4, 6, 2, 3, 4)}


@pytest.mark.parametrize(
    ("backend", "similarity", "unbiased", "dims", "layout"),
    list(drawn(itertools.product(SIMILARITIES, (False, True), SHAPES, LAYOUTS), cuda=1)),
)
def test_similarities(backend, similarity, unbiased, dims, layout):
    fused, plain = randomized(
        *(
            ns.NormalizationAttention(similarity=similarity, unbiased=unbiased, act="silu")
            for ns in (fusednorm, reference)
        )
    )
    assert_like_reference(backend, fused, plain, laid_out(maps_like(*SHAPES[dims]), layout))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_embedding(backend, unbiased):
    """40 parameters, all of which get the reference's gradients."""
    fused, plain = randomized(
        *(
            ns.NormalizationAttention(similarity="mean_difference", embedding=True, unbiased=unbiased, act="relu")
            for ns in (fusednorm, reference)
        )
    )
    assert sum(p.numel() for name, p in fused.named_parameters() if name.startswith(("query", "key"))) == 40
    assert_like_reference(backend, fused, plain, maps_like(4, 6, 5, 7))


def test_embedding_wants_images_and_mean_difference():
    with pytest.raises(ValueError, match="embedding: expected similarity 'mean_difference' with it, got 'l1'"):
        fusednorm.NormalizationAttention(embedding=True)
    layer = fusednorm.NormalizationAttention(similarity="mean_difference", embedding=True)
    with pytest.raises(ValueError, match=r"x: expected \(N, C, H, W\) input to embed, got shape \(4, 6, 7\)"):
        layer(torch.randn(4, 6, 7))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("backend", QUICK)
def test_at_the_start(backend, similarity):
    """gain 0, offset 1: x sigmoid(1), whatever the context."""
    x = torch.randn(4, 6, 5, 3)
    with fusednorm.use_backend(backend):
        y = fusednorm.NormalizationAttention(similarity=similarity)(x)
    torch.testing.assert_close(y, x * torch.sigmoid(torch.ones(())))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("backend", QUICK)
def test_one_channel(backend, similarity, unbiased):
    """It has no deviation: its gate is sigmoid(offset), and all gradients are finite, gain's 0."""
    layer = fusednorm.NormalizationAttention(similarity=similarity, unbiased=unbiased)
    with torch.no_grad():
        layer.gain.fill_(0.7), layer.offset.fill_(0.3)
    x = torch.randn(4, 1, 5, 3, requires_grad=True)
    with fusednorm.use_backend(backend):
        y = layer(x)
        y.square().sum().backward()
    torch.testing.assert_close(y, x * torch.sigmoid(torch.full((), 0.3)))
    torch.testing.assert_close(x.grad, 2 * x.detach() * torch.sigmoid(torch.full((), 0.3)).square())
    assert layer.gain.grad.abs() <= 1e-6
    assert layer.offset.grad.isfinite().all()


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("backend", QUICK)
def test_after_batch_normalization(backend, similarity, training):
    """In one call as in two, with residual and activation, and the running statistics are the same."""
    norm = fusednorm.BatchNorm2d(6)
    module = fusednorm.NormalizationAttention(similarity=similarity, act="relu")
    joined = fusednorm.RecalibratedNorm(
        standardizations.Batch(6), recalibrations.NormalizationAttention(6, similarity=similarity), "relu"
    )
    joined, _ = randomized(joined, joined)
    state = joined.state_dict()
    norm.load_state_dict({k.split(".")[1]: v.clone() for k, v in state.items() if k.split(".")[1] in norm.state_dict()})
    module.load_state_dict({k: state[f"recalibrate.{k}"].clone() for k in module.state_dict()})
    for layer in (norm, module, joined):
        layer.double().train(training)
    x, residual, dy = maps_like(4, 6, 5, 3), *(torch.randn(4, 6, 5, 3).double() for _ in range(2))

    def gradients(function, parameters):
        inputs = [t.detach().clone().requires_grad_() for t in (x, residual)]
        y = function(*inputs)
        return [y, *torch.autograd.grad(y, [*inputs, *parameters], dy)]

    with fusednorm.use_backend(backend):
        ours = gradients(joined, [p for _, p in sorted(joined.named_parameters())])
        own = {f"recalibrate.{name}": p for layer in (norm, module) for name, p in layer.named_parameters()}
        theirs = gradients(lambda a, r: module(norm(a), r), [p for _, p in sorted(own.items())])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(joined.standardize, name), getattr(norm, name))


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_number_of_channels(backend):
    """No parameter depends on it: one layer takes maps of 4 and of 6 channels."""
    fused, plain = randomized(*(ns.NormalizationAttention() for ns in (fusednorm, reference)))
    for C in (4, 6):
        assert_like_reference(backend, fused, plain, maps_like(3, C, 4, 3))


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("backend", QUICK)
def test_constant_map(backend, similarity):
    """All positions weigh the same: the context is the plane mean."""
    layer, _ = randomized(*(ns.NormalizationAttention(similarity=similarity) for ns in (fusednorm, reference)))
    mean = fusednorm.NormalizationAttention(similarity=None)
    mean.load_state_dict(layer.state_dict())
    x = torch.randn(4, 6, 1, 1).expand(4, 6, 5, 3).contiguous()
    with fusednorm.use_backend(backend):
        torch.testing.assert_close(layer(x), mean(x))
