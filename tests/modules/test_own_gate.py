"""A gate by a function or module of the user's: in plain PyTorch, so that its own parameters learn."""

import copy

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import recalibrations, standardizations
from tests.cases import BACKENDS, LAYOUTS, laid_out

from .test_compile import compiled_and_eager


class Slope(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3]))

    def forward(self, a):
        return torch.sigmoid(self.weight * a)


# Name -> a layer whose gate is the function.
LAYERS = {
    "representative": lambda gate: fusednorm.RepresentativeBatchNorm2d(8, restrict=gate, act="relu"),
    "representative std": lambda gate: fusednorm.RepresentativeBatchNorm2d(8, center="std", scale="std", restrict=gate),
    "representative spatial": lambda gate: fusednorm.RepresentativeBatchNorm2d(8, scale="spatial_mean", restrict=gate),
    "squeeze-excite": lambda gate: fusednorm.SqueezeExcite(8, 2, gate=gate, act="relu"),
    "efficient channel attention": lambda gate: fusednorm.EfficientChannelAttention(8, 3, gate=gate),
    "switchable squeeze-excite": lambda gate: fusednorm.RecalibratedNorm(
        standardizations.Switchable(8), recalibrations.SqueezeExcite(8, 2, gate=gate)
    ),
    "representative spatial, ECA": lambda gate: fusednorm.RecalibratedNorm(
        standardizations.Representative(8, center="spatial_std"),
        recalibrations.EfficientChannelAttention(8, 3, gate=gate),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_parameters_of_the_gate_learn(backend, name):
    """Their gradients are differences of the loss, and bring nothing else along."""
    layer = LAYERS[name](Slope()).double()
    x, dy = torch.randn(4, 8, 5, 3).double().requires_grad_(), torch.randn(4, 8, 5, 3).double()
    (slope,) = (p for key, p in layer.named_parameters() if key.endswith(("gate.weight", "restrict.weight")))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3 * (parameter is not slope))

    def loss():
        with fusednorm.use_backend(backend):
            return (layer(x) * dy).sum()

    (found,) = torch.autograd.grad(loss(), slope)
    h = 1e-6
    with torch.no_grad():
        losses = []
        for step in (h, -2 * h):
            slope.add_(step)
            losses.append(loss())
    torch.testing.assert_close(found, ((losses[0] - losses[1]) / (2 * h)).reshape(1), rtol=1e-5, atol=1e-5)
    assert found.abs() > 1e-3


@pytest.mark.parametrize("name", LAYERS)
def test_a_closure_over_a_parameter(name):
    slope = torch.full((), 0.3, requires_grad=True)
    layer = LAYERS[name](lambda a: torch.sigmoid(slope * a))
    layer(torch.randn(4, 8, 5, 3)).square().sum().backward()
    assert slope.grad.abs() > 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_layout(backend, layout):
    x = laid_out(torch.randn(4, 8, 5, 3), layout)
    with fusednorm.use_backend(backend):
        for name, make in LAYERS.items():
            assert make(torch.sigmoid)(x).stride() == x.stride(), name


@pytest.mark.parametrize("name", ["representative", "representative spatial", "squeeze-excite"])
def test_compiled(name):
    """One graph, and the same gradients of the gate's own parameter."""
    x, residual = torch.randn(4, 8, 5, 3), torch.randn(4, 8, 5, 3)
    compiled_and_eager("torch", LAYERS[name](Slope()), x, residual)


def test_statistics_and_copies():
    """Running statistics as with the same gate by name."""
    own, named = LAYERS["representative"](torch.sigmoid), LAYERS["representative"]("sigmoid")
    x = torch.randn(4, 8, 5, 3)
    for layer in (own, copy.deepcopy(own)):
        torch.testing.assert_close(layer(x), named(x))
        torch.testing.assert_close(layer.running_mean, own.running_mean)
    assert own.num_batches_tracked == 1
