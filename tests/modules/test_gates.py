"""Squeeze-excite, ECA, SRM, gather-excite, and the layers of response.py: on a bare map, after a standardization, and
what their papers say of the start."""

import itertools
import math

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import recalibrations, reference, standardizations
from tests.cases import BACKENDS, LAYOUTS, QUICK, assert_like_reference, drawn, laid_out, maps_like, randomized

SHAPES = {2: (5, 8), 3: (4, 8, 11), 4: (4, 8, 5, 3), 5: (4, 8, 2, 3, 4)}
GATES = ("sigmoid", "tanh", "hsigmoid")

# Name -> (constructor of the namespace, options).
OPTIONS = [
    *(
        ("SqueezeExcite", {"reduction": r, "bias": b, "gate": g})
        for r, b, g in itertools.product((2, 64), (True, False), GATES)
    ),
    *(
        ("EfficientChannelAttention", {"kernel_size": k, "gate": g})
        for k, g in ((None, GATES[0]), (1, GATES[1]), (5, GATES[2]))
    ),
    ("StyleRecalibration", {}),
    ("StyleRecalibration", {"eps": 1e-2, "track_running_stats": False}),
    ("GatherExcite", {}),
    ("GlobalResponseNorm", {"eps": 1e-2}),
    ("FilterResponseNorm", {"eps": 1e-2}),
    ("FilterResponseNorm", {"threshold": False}),
    ("InstanceEnhancementBatchNorm{}d", {"momentum": None}),
    ("InstanceEnhancementBatchNorm{}d", {"affine": False}),
]


def build(name, dims, **options):
    name = name.format({2: 1, 3: 1, 4: 2, 5: 3}[dims])
    layers = (getattr(ns, name)(8, **options) for ns in (fusednorm, reference))
    return tuple(layer.double() for layer in randomized(*layers))


@pytest.mark.parametrize(
    ("backend", "name", "options", "dims", "layout"),
    list(
        drawn(
            (name, options, dims, LAYOUTS[(i + dims) % 2])
            for i, (name, options) in enumerate(OPTIONS)
            for dims in (4, 2 + i % 4)
        )
    ),
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else str(value),
)
def test_options(backend, name, options, dims, layout):
    """float64: results, gradients, buffers."""
    for training in (True, False):
        x = laid_out(maps_like(*SHAPES[dims]), layout)
        assert_like_reference(backend, *build(name, dims, **options), x, training)


@pytest.mark.parametrize("name", ["SqueezeExcite", "EfficientChannelAttention"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gate_by_a_function(backend, name):
    fused, plain = randomized(
        *(getattr(ns, name)(8, 3, gate=lambda a: torch.exp(-a.square())) for ns in (fusednorm, reference))
    )
    assert_like_reference(backend, fused, plain, maps_like(4, 8, 5, 3))


# Recalibration -> the layer that does the same to a bare map.
BARE = {
    "SqueezeExcite": lambda ns: ns.SqueezeExcite(8, 2),
    "EfficientChannelAttention": lambda ns: ns.EfficientChannelAttention(8, 3),
    "StyleRecalibration": lambda ns: ns.StyleRecalibration(8),
    "GatherExcite": lambda ns: ns.GatherExcite(8),
    "GlobalResponse": lambda ns: getattr(ns, "GlobalResponseNorm", getattr(ns, "GlobalResponse", None))(8),
}


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("backend", QUICK)
def test_after_batch_normalization(backend, name):
    """On the normalized map (AN eq. 5): BatchNorm with the gate in its passes is BatchNorm, then the gate."""
    joined = fusednorm.RecalibratedNorm(standardizations.Batch(8), BARE[name](recalibrations), "relu")
    joined, _ = randomized(joined, joined)
    norm, gate = fusednorm.BatchNorm2d(8), BARE[name](fusednorm)
    state = {key.split(".", 1)[1]: value.clone() for key, value in joined.state_dict().items()}
    own = name == "GlobalResponse"  # its weight and bias are not BatchNorm's
    gate.load_state_dict({key: state[key] for key in gate.state_dict()})
    norm.load_state_dict(
        {key: state[key] for key in norm.state_dict() if not own or key not in ("weight", "bias")}, strict=False
    )
    x, residual = maps_like(4, 8, 5, 3), torch.randn(4, 8, 5, 3).double()
    for layer in (joined, norm, gate):
        layer.double()
    found = []
    for function in (joined, lambda x, residual: torch.relu(gate(norm(x)) + residual)):
        a = x.clone().requires_grad_()
        with fusednorm.use_backend(backend):
            y = function(a, residual)
            found.append((y, torch.autograd.grad(y.square().sum(), a)[0]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 1), (2, 1), (8, 3), (16, 3), (64, 3), (256, 5), (512, 5), (1024, 5)]
)
def test_adaptive_kernel(channels, size):
    """|log2(C)/2 + 1/2|, odd: ECA eq. 12."""
    assert fusednorm.EfficientChannelAttention(channels).conv.weight.shape == (1, 1, size)
    nearest = int(math.log2(channels) / 2 + 0.5)
    assert size == nearest + (nearest + 1) % 2


def test_width():
    """h = C/reduction, at least 1."""
    assert fusednorm.SqueezeExcite(64).reduce.weight.shape == (4, 64)
    assert fusednorm.SqueezeExcite(8).expand.weight.shape == (8, 1)
    assert fusednorm.SqueezeExcite(8, bias=False).reduce.bias is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_at_the_start(backend):
    """IEBN: BN with a gate of sigmoid(-1); GRN: x itself; SRM: x sigmoid(0); FRN: max of the normalized map and 0."""
    x = torch.randn(4, 8, 5, 3)
    x_hat = nn.functional.batch_norm(x, None, None, training=True)
    nu2 = x.square().mean((2, 3), keepdim=True)
    with fusednorm.use_backend(backend):
        found = {
            "IEBN": (fusednorm.InstanceEnhancementBatchNorm2d(8)(x), x_hat / (1 + math.e)),
            "GRN": (fusednorm.GlobalResponseNorm(8)(x), x),
            "SRM": (fusednorm.StyleRecalibration(8)(x), x / 2),
            "FRN": (fusednorm.FilterResponseNorm(8)(x), (x * torch.rsqrt(nu2 + 1e-6)).clamp(min=0)),
        }
    for name, (ours, theirs) in found.items():
        torch.testing.assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}")


def test_style_recalibration_of_one_sample():
    """Its BN over samples has nothing to normalize by in training; in evaluation one sample will do."""
    layer = fusednorm.StyleRecalibration(8)
    with pytest.raises(ValueError, match="x: expected at least two samples"):
        layer(torch.randn(1, 8, 5, 3))
    assert layer.eval()(torch.randn(1, 8, 5, 3)).isfinite().all()
