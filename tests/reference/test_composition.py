"""Any standardization with any recalibration, and the named layers as such pairs."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusednorm import reference
from fusednorm.reference import RecalibratedNorm, recalibrations, standardizations, switchable

from .samples import SHAPES, check_gradients, randomize, sample

STANDARDIZATIONS: dict[str, Any] = {
    "batch": lambda C: standardizations.Batch(C),
    "group": lambda C: standardizations.Group(2, C),
    "layer": lambda C: standardizations.Layer(C),
    "instance": lambda C: standardizations.Instance(C),
    "switchable": lambda C: standardizations.Switchable(C, scopes=switchable.SCOPES, num_groups=2),
    "representative": lambda C: standardizations.Representative(C),
    "representative, spatial": lambda C: standardizations.Representative(C, center="spatial_std"),
    "filter response": lambda C: standardizations.FilterResponse(C),
    "identity": lambda C: standardizations.Identity(C),
}
RECALIBRATIONS: dict[str, Any] = {
    "affine": lambda C: recalibrations.Affine(C),
    "attentive": lambda C: recalibrations.Attentive(C, 3),
    "scaling": lambda C: recalibrations.Scaling(C),
    "scaling, spatial": lambda C: recalibrations.Scaling(C, scale="spatial_std", restrict="tanh"),
    "squeeze-excite": lambda C: recalibrations.SqueezeExcite(C, 2),
    "ECA": lambda C: recalibrations.EfficientChannelAttention(C, 3),
    "SRM": lambda C: recalibrations.StyleRecalibration(C),
    "gather-excite": lambda C: recalibrations.GatherExcite(C),
    "normalization-attention": lambda C: recalibrations.NormalizationAttention(C),
    "IE": lambda C: recalibrations.InstanceEnhancement(C),
    "global response": lambda C: recalibrations.GlobalResponse(C),
}
PAIRS = list(itertools.product(STANDARDIZATIONS, RECALIBRATIONS))

# Name -> (the layer, its parts); of 6 channels, for (N, C, H, W).
NAMED: dict[str, tuple[Any, Any]] = {
    "BatchNorm2d": (
        lambda **o: reference.BatchNorm2d(6, 1e-3, 0.3, **o),
        lambda: (standardizations.Batch(6, 1e-3, 0.3), recalibrations.Affine(6)),
    ),
    "GroupNorm": (
        lambda **o: reference.GroupNorm(3, 6, 1e-3, **o),
        lambda: (standardizations.Group(3, 6, 1e-3), recalibrations.Affine(6)),
    ),
    "AttentiveBatchNorm2d": (
        lambda **o: reference.AttentiveBatchNorm2d(6, 3, **o),
        lambda: (standardizations.Batch(6), recalibrations.Attentive(6, 3)),
    ),
    "AttentiveGroupNorm": (
        lambda **o: reference.AttentiveGroupNorm(3, 6, 3, attention_act="softmax", **o),
        lambda: (
            standardizations.Group(3, 6),
            recalibrations.Attentive(6, 3, attention_norm=False, attention_act="softmax"),
        ),
    ),
    "RepresentativeBatchNorm2d": (
        lambda **o: reference.RepresentativeBatchNorm2d(6, center="std", scale="spatial_mean", restrict="tanh", **o),
        lambda: (
            standardizations.Representative(6, center="std"),
            recalibrations.Scaling(6, scale="spatial_mean", restrict="tanh"),
        ),
    ),
    "SwitchableNorm2d": (
        lambda **o: reference.SwitchableNorm2d(6, 1e-3, 0.3, unbiased=True, per_group=2, **o),
        lambda: (standardizations.Switchable(6, 1e-3, 0.3, unbiased=True, per_group=2), recalibrations.Affine(6)),
    ),
    "InstanceEnhancementBatchNorm2d": (
        lambda **o: reference.InstanceEnhancementBatchNorm2d(6, 1e-3, 0.3, **o),
        lambda: (standardizations.Batch(6, 1e-3, 0.3), recalibrations.InstanceEnhancement(6)),
    ),
    "FilterResponseNorm": (
        lambda **o: reference.FilterResponseNorm(6, 1e-3, threshold=False),
        lambda: (standardizations.FilterResponse(6, 1e-3), recalibrations.Affine(6)),
    ),
    "NormalizationAttention": (
        lambda **o: reference.NormalizationAttention(similarity="squared", **o),
        lambda: (
            standardizations.Identity(6),
            recalibrations.NormalizationAttention(6, affine=False, similarity="squared"),
        ),
    ),
    "SqueezeExcite": (
        lambda **o: reference.SqueezeExcite(6, 2, gate="hsigmoid", **o),
        lambda: (standardizations.Identity(6), recalibrations.SqueezeExcite(6, 2, affine=False, gate="hsigmoid")),
    ),
    "EfficientChannelAttention": (
        lambda **o: reference.EfficientChannelAttention(6, **o),
        lambda: (standardizations.Identity(6), recalibrations.EfficientChannelAttention(6, affine=False)),
    ),
    "StyleRecalibration": (
        lambda **o: reference.StyleRecalibration(6, eps=1e-3, **o),
        lambda: (standardizations.Identity(6), recalibrations.StyleRecalibration(6, affine=False, eps=1e-3)),
    ),
    "GatherExcite": (
        lambda **o: reference.GatherExcite(6, **o),
        lambda: (standardizations.Identity(6), recalibrations.GatherExcite(6, affine=False)),
    ),
    "GlobalResponseNorm": (
        lambda **o: reference.GlobalResponseNorm(6, 1e-3, **o),
        lambda: (standardizations.Identity(6), recalibrations.GlobalResponse(6, 1e-3)),
    ),
}
ACTIVATED = [name for name in NAMED if name != "FilterResponseNorm"]


def compose(standardize: str, recalibrate: str, C: int = 6, act: str | None = None) -> Any:
    parts = STANDARDIZATIONS[standardize](C), RECALIBRATIONS[recalibrate](C)
    return randomize(RecalibratedNorm(standardize=parts[0], recalibrate=parts[1], act=act))


# ------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("standardize", "recalibrate"), PAIRS)
def test_a_pair_is_one_after_the_other(standardize: str, recalibrate: str, shape: tuple[int, ...]) -> None:
    norm = compose(standardize, recalibrate, act="leaky_relu")
    first, second = copy.deepcopy(norm.standardize), copy.deepcopy(norm.recalibrate)
    x, residual = sample(shape), sample(shape, seed=4)
    for training in (True, False):
        for module in (norm, first, second):
            module.train(training)
        before = x.clone()
        y = norm(x, residual)
        assert torch.equal(x, before)
        torch.testing.assert_close(y, nn.functional.leaky_relu(second(x, first(x)) + residual, 0.01))


@pytest.mark.parametrize(("standardize", "recalibrate"), PAIRS)
def test_gradients_of_a_pair(standardize: str, recalibrate: str) -> None:
    norm = compose(standardize, recalibrate, C=4)
    check_gradients(norm, sample((3, 4, 3)))
    check_gradients(norm.eval(), sample((3, 4, 3)), twice=False)


@pytest.mark.parametrize(("standardize", "recalibrate"), PAIRS)
def test_half_types_are_computed_in_float32_and_rounded_once(standardize: str, recalibrate: str) -> None:
    norm = compose(standardize, recalibrate).float().eval()
    x = sample((3, 6, 4, 3)).bfloat16()
    y = norm(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, norm(x.float()).bfloat16())
    assert norm.bfloat16().train()(x).dtype == torch.bfloat16


def test_state_names() -> None:
    norm = compose("switchable", "squeeze-excite")
    parts = {"standardize": norm.standardize, "recalibrate": norm.recalibrate}
    expected = {f"{which}.{name}" for which, part in parts.items() for name in part.state_dict()}
    assert norm.state_dict().keys() == expected
    assert {"standardize.mean_weight", "standardize.running_var", "recalibrate.reduce.weight"} < expected


class Doubled(nn.Module):
    """A part of the user's own."""

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return 2 * x_hat + x


def test_any_module_is_a_part() -> None:
    norm = RecalibratedNorm(standardizations.Layer(6), Doubled())
    x = sample((3, 6, 4))
    torch.testing.assert_close(norm(x), 2 * nn.functional.layer_norm(x, (6, 4)) + x)


# ------------------------------------------------------------------------------------- named layers


def undotted(key: str) -> str:
    return key.removeprefix("standardize.").removeprefix("recalibrate.")


@pytest.mark.parametrize("name", NAMED)
def test_a_named_layer_is_its_parts(name: str) -> None:
    """With the same state, but for the names, which have no dot: outputs, gradients, statistics, evaluation."""
    build, parts = NAMED[name]
    layer, norm = randomize(build()), RecalibratedNorm(*parts()).double()
    flat = {undotted(key): key for key in norm.state_dict()}
    assert flat.keys() == layer.state_dict().keys()
    norm.load_state_dict({flat[key]: value for key, value in layer.state_dict().items()})
    for training in (True, False):
        layer.train(training), norm.train(training)
        results = []
        for module in (layer, norm):
            x, residual = sample((3, 6, 4, 3)).requires_grad_(), sample((3, 6, 4, 3), seed=2)
            y = module(x, residual)
            module.zero_grad()
            y.square().sum().backward()
            gradients = {undotted(key): p.grad for key, p in module.named_parameters()}
            results.append((y, x.grad, gradients))
        torch.testing.assert_close(*results)
        state = norm.state_dict()
        torch.testing.assert_close(dict(layer.state_dict()), {key: state[dotted] for key, dotted in flat.items()})


@pytest.mark.parametrize("name", ACTIVATED)
def test_residual_and_act_come_last(name: str) -> None:
    plain, layer = (randomize(NAMED[name][0](**options)) for options in ({}, {"act": "leaky_relu"}))
    x, residual = sample((3, 6, 4, 3)), sample((3, 6, 4, 3), seed=2)
    expected = plain(x) + residual
    assert 0 < (expected < 0).sum() < expected.numel()
    torch.testing.assert_close(layer(x, residual), nn.functional.leaky_relu(expected, 0.01))


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_layers_of_half_types(name: str, dtype: torch.dtype) -> None:
    """As the float32 layer with the same, rounded, parameters."""
    layer = randomize(NAMED[name][0]()).to(dtype)
    wide = copy.deepcopy(layer).float()
    x = sample((3, 6, 4, 3)).to(dtype)
    for training in (True, False):
        layer.train(training), wide.train(training)
        y = layer(x)
        assert y.dtype == dtype
        # bfloat16's unit in the last place is 0.008 of a value: a few roundings of values around 1
        torch.testing.assert_close(y, wide(x.float()).to(dtype), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", [name for name in NAMED if not name.startswith("Attentive")])  # test_attentive does
def test_compiles_as_one_graph(name: str) -> None:
    torch.compiler.reset()  # all layers have one forward, which may be compiled so many times only
    layers = [randomize(NAMED[name][0]()) for _ in range(2)]
    layers[1].compile(fullgraph=True, backend="aot_eager")
    results = []
    for layer in layers:
        x, residual = sample((3, 6, 4, 3)).requires_grad_(), sample((3, 6, 4, 3), seed=1)
        y = layer(x, residual)
        gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
        results.append((y, gradients, dict(layer.state_dict())))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", NAMED)
def test_copies_keep_what_both_parts_have(name: str) -> None:
    layer = randomize(NAMED[name][0]())
    twin = copy.deepcopy(layer)
    x = sample((3, 6, 4, 3))
    torch.testing.assert_close(twin(x), layer(x), rtol=0, atol=0)


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="act must be"):
        RecalibratedNorm(standardizations.Batch(6), recalibrations.Affine(6), act="tanh")
    with pytest.raises(ValueError, match=r"x: expected 6 channels"):
        RecalibratedNorm(standardizations.Batch(6), recalibrations.Affine(6))(torch.randn(3, 1, 4))
