"""The gates and what is like them, each against its equation written out."""

import functools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from fusednorm import reference
from fusednorm.reference import recalibrations, standardizations
from fusednorm.reference.gates import adaptive_kernel_size

from .samples import SHAPES, check_gradients, randomize, sample, spread

GATES = {
    "sigmoid": torch.sigmoid,
    "tanh": lambda a: (1 + torch.tanh(a)) / 2,
    "hsigmoid": lambda a: functional.hardsigmoid(a),
}


def plane_mean(x: Any) -> Any:
    return x.reshape(*x.shape[:2], -1).mean(2)


# ------------------------------------------------------------------------------------- Squeeze-Excite


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gate", GATES)
def test_squeeze_excite(gate: str, bias: bool, shape: tuple[int, ...]) -> None:
    layer = randomize(reference.SqueezeExcite(6, 2, bias=bias, gate=gate))
    x = sample(shape)
    W1, W2 = layer.reduce.weight, layer.expand.weight
    assert W1.shape == (3, 6)
    assert W2.shape == (6, 3)
    b1, b2 = (layer.reduce.bias, layer.expand.bias) if bias else (0, 0)
    lambda_ = GATES[gate](torch.relu(plane_mean(x) @ W1.T + b1) @ W2.T + b2)
    torch.testing.assert_close(layer(x), spread(lambda_, x) * x)


@pytest.mark.parametrize("training", [True, False])
def test_squeeze_excite_over_batch_norm(training: bool) -> None:
    """AN eq. 5: the same as Squeeze-Excite of Batch Normalization's output."""
    parts = standardizations.Batch(6), recalibrations.SqueezeExcite(6, 2)
    norm = randomize(reference.RecalibratedNorm(*parts)).train(training)
    batch_norm, squeeze_excite = nn.BatchNorm2d(6, dtype=torch.float64), reference.SqueezeExcite(6, 2).double()
    state = {name.split(".", 1)[1]: value for name, value in norm.state_dict().items()}
    batch_norm.load_state_dict({name: state[name] for name in batch_norm.state_dict()})
    squeeze_excite.load_state_dict({name: state[name] for name in squeeze_excite.state_dict()})
    x = sample((3, 6, 4, 3))
    torch.testing.assert_close(norm(x), squeeze_excite(batch_norm.train(training)(x)))


@pytest.mark.parametrize("name", ["SqueezeExcite", "EfficientChannelAttention"])
def test_a_callable_gate(name: str) -> None:
    x = sample((3, 6, 4))
    torch.testing.assert_close(getattr(reference, name)(6, gate=lambda a: torch.full_like(a, 0.25)).double()(x), x / 4)


def test_hidden_channels() -> None:
    assert reference.SqueezeExcite(64).reduce.weight.shape == (4, 64)
    assert reference.SqueezeExcite(6).reduce.weight.shape == (1, 6)


# ------------------------------------------------------------------------------------- ECA, SRM, GE


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("gate", GATES)
def test_efficient_channel_attention(gate: str, kernel_size: int, shape: tuple[int, ...]) -> None:
    layer = randomize(reference.EfficientChannelAttention(6, kernel_size, gate=gate))
    x = sample(shape)
    m, w, reach = plane_mean(x), layer.conv.weight.flatten(), kernel_size // 2
    a = torch.zeros_like(m)
    for c in range(6):
        for neighbour in range(max(c - reach, 0), min(c + reach, 5) + 1):
            a[:, c] += w[neighbour - c + reach] * m[:, neighbour]
    torch.testing.assert_close(layer(x), spread(GATES[gate](a), x) * x)


def test_adaptive_kernel_size() -> None:
    """The odd number next to log2(C)/2 + 1/2; of two the greater."""
    for channels in range(1, 5000):
        t = (math.log2(channels) + 1) / 2
        nearest = min(range(1, 21, 2), key=lambda k: (abs(k - t), -k))
        assert adaptive_kernel_size(channels) == nearest
    assert reference.EfficientChannelAttention(256).conv.weight.shape == (1, 1, 5)
    assert reference.EfficientChannelAttention(64).conv.weight.shape == (1, 1, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_style_recalibration(shape: tuple[int, ...]) -> None:
    layer = randomize(reference.StyleRecalibration(6, eps=1e-2))
    norm = nn.BatchNorm1d(6, dtype=torch.float64)
    norm.load_state_dict(layer.norm.state_dict())
    for training in (True, False):
        layer.train(training), norm.train(training)
        x = sample(shape)
        planes = x.reshape(*shape[:2], -1)
        std = (planes.var(2, correction=0) + 1e-2).sqrt()
        z = layer.style_weight[:, 0] * planes.mean(2) + layer.style_weight[:, 1] * std
        torch.testing.assert_close(layer(x), spread(torch.sigmoid(norm(z)), x) * x)
        torch.testing.assert_close(dict(layer.norm.state_dict()), dict(norm.state_dict()))


def test_style_recalibration_state() -> None:
    layer = reference.StyleRecalibration(6)
    assert torch.equal(layer.style_weight, torch.zeros(6, 2))
    assert {"style_weight", "norm.weight", "norm.bias", "norm.running_var"} < layer.state_dict().keys()
    assert not list(reference.StyleRecalibration(6, track_running_stats=False).buffers())


@pytest.mark.parametrize("shape", SHAPES)
def test_gather_excite(shape: tuple[int, ...]) -> None:
    layer = reference.GatherExcite(6)
    assert not layer.state_dict()
    x = sample(shape)
    torch.testing.assert_close(layer(x), x * spread(torch.sigmoid(plane_mean(x)), x))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("SqueezeExcite", (6, 2)),
        ("EfficientChannelAttention", (6, 3)),
        ("StyleRecalibration", (6,)),
        ("GatherExcite", (6,)),
    ],
)
def test_a_gate_sees_what_the_affine_transformation_gives(name: str, arguments: tuple[int, ...]) -> None:
    part = functools.partial(getattr(recalibrations, name), *arguments)
    x, x_hat = sample((3, 6, 4), seed=3), sample((3, 6, 4))
    with_affine, layer = randomize(part()), getattr(reference, name)(*arguments).double()
    state = with_affine.state_dict()
    z = spread(state.pop("weight"), x) * x_hat + spread(state.pop("bias"), x)
    layer.load_state_dict(state)
    torch.testing.assert_close(with_affine(x, x_hat), layer(z))
    without = part(affine=False).double()
    without.load_state_dict(state)
    torch.testing.assert_close(without(x, x_hat), layer(x_hat))


# ------------------------------------------------------------------------------------- IEBN, FRN, GRN


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_instance_enhancement_batch_norm(training: bool, shape: tuple[int, ...]) -> None:
    dims = {2: 1, 3: 1, 4: 2, 5: 3}[len(shape)]
    layer = randomize(getattr(reference, f"InstanceEnhancementBatchNorm{dims}d")(6)).train(training)
    theirs = getattr(nn, f"BatchNorm{dims}d")(6, affine=False, dtype=torch.float64).train(training)
    theirs.load_state_dict({name: layer.state_dict()[name].clone() for name in theirs.state_dict()})
    x = sample(shape)
    delta = torch.sigmoid(layer.enhance_weight * plane_mean(x) + layer.enhance_bias)
    expected = spread(layer.weight, x) * spread(delta, x) * theirs(x) + spread(layer.bias, x)
    torch.testing.assert_close(layer(x), expected)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value)


def test_instance_enhancement_starts_as_sigmoid_of_minus_1() -> None:
    layer = reference.InstanceEnhancementBatchNorm2d(6)
    x = sample((3, 6, 4, 3))
    torch.testing.assert_close(layer(x), nn.BatchNorm2d(6, dtype=torch.float64)(x) / (1 + math.exp(1)))
    assert layer.state_dict().keys() == nn.BatchNorm2d(6).state_dict().keys() | {"enhance_weight", "enhance_bias"}


@pytest.mark.parametrize("shape", SHAPES)
def test_filter_response_norm(shape: tuple[int, ...]) -> None:
    layer = randomize(reference.FilterResponseNorm(6, eps=1e-2))
    x, residual = sample(shape), sample(shape, seed=7)
    nu2 = plane_mean(x.square())
    y = spread(layer.weight, x) * x / (spread(nu2, x) + 1e-2).sqrt() + spread(layer.bias, x)
    tau = spread(layer.threshold, x)
    assert 0 < (y < tau).sum() < y.numel()
    torch.testing.assert_close(layer(x), torch.maximum(y, tau))
    torch.testing.assert_close(layer(x, residual), torch.maximum(y + residual, tau))


def test_filter_response_norm_without_threshold() -> None:
    layer = reference.FilterResponseNorm(6)
    assert {name: p.tolist() for name, p in layer.named_parameters()} == {
        "weight": [1.0] * 6,
        "bias": [0.0] * 6,
        "threshold": [0.0] * 6,
    }
    plain: Any = reference.FilterResponseNorm(6, threshold=False)
    assert plain.threshold is None
    assert plain.state_dict().keys() == {"weight", "bias"}
    x = sample((3, 6, 4))
    torch.testing.assert_close(layer(x), torch.relu(plain(x)))
    torch.testing.assert_close(plain(x), functional.rms_norm(x, (4,), eps=1e-6))
    assert layer(torch.full_like(x, math.nan)).isnan().all()


@pytest.mark.parametrize("shape", SHAPES)
def test_global_response_norm(shape: tuple[int, ...]) -> None:
    layer = randomize(reference.GlobalResponseNorm(6, eps=1e-2))
    x = sample(shape)
    G = x.reshape(*shape[:2], -1).square().sum(2).sqrt()
    N_ = G / (G.sum(1, keepdim=True) / 6 + 1e-2)
    torch.testing.assert_close(layer(x), spread(layer.weight, x) * x * spread(N_, x) + spread(layer.bias, x) + x)


def test_global_response_norm_starts_as_the_identity_and_takes_zeros() -> None:
    layer = reference.GlobalResponseNorm(6).double()
    x = sample((3, 6, 4, 3))
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    x[1] = 0
    x.requires_grad_()
    gradient = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)[0]
    assert gradient.isfinite().all()
    assert torch.autograd.grad(gradient.sum(), x)[0].isfinite().all()


# ------------------------------------------------------------------------------------- all of them

LAYERS = {
    "SE": lambda: reference.SqueezeExcite(4, 2),
    "SE, tanh": lambda: reference.SqueezeExcite(4, 2, bias=False, gate="tanh"),
    "ECA": lambda: reference.EfficientChannelAttention(4, 3),
    "SRM": lambda: reference.StyleRecalibration(4),
    "GE": lambda: reference.GatherExcite(4),
    "IEBN": lambda: reference.InstanceEnhancementBatchNorm1d(4),
    "FRN": lambda: reference.FilterResponseNorm(4),
    "GRN": lambda: reference.GlobalResponseNorm(4),
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_gradients(training: bool, layer: str) -> None:
    module = randomize(LAYERS[layer]()).train(training)
    check_gradients(module, sample((3, 4, 3)), sample((3, 4, 3), seed=6))
    check_gradients(module, sample((3, 4)), twice=False)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: reference.SqueezeExcite(6, 0), "reduction"),
        (lambda: reference.SqueezeExcite(6, gate="relu"), "gate"),
        (lambda: reference.EfficientChannelAttention(6, gate="relu"), "gate"),
        (lambda: reference.EfficientChannelAttention(6, 4), "kernel_size"),
        (lambda: reference.EfficientChannelAttention(6, -1), "kernel_size"),
        (lambda: reference.GatherExcite(6, act="tanh"), "act"),
        (lambda: reference.StyleRecalibration(6, act="tanh"), "act"),
        (lambda: reference.GlobalResponseNorm(6, act="tanh"), "act"),
        (lambda: reference.GatherExcite(6)(torch.randn(3, 1, 4)), "x"),
        (lambda: reference.FilterResponseNorm(6)(torch.randn(3, 1, 4)), "x"),
        (lambda: reference.GlobalResponseNorm(6)(torch.randn(3)), "x"),
        (lambda: reference.InstanceEnhancementBatchNorm2d(6)(torch.randn(3, 6, 4)), "x"),
    ],
)
def test_refused_arguments(build: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        build()
