"""Every standardization with every recalibration."""

import itertools

import pytest
import torch

import fusednorm
from tests.cases import QUICK, assert_like_reference, drawn, maps_like, randomized

from .test_gradients import function_of

# Name -> (namespace of parts, channels) -> part; names as in fusednorm.standardizations and .recalibrations.
STANDARDIZATIONS = {
    "Batch": lambda ns, C: ns.Batch(C),
    "Group": lambda ns, C: ns.Group(2, C),
    "Layer": lambda ns, C: ns.Layer(C),
    "Instance": lambda ns, C: ns.Instance(C),
    "Switchable": lambda ns, C: ns.Switchable(C),
    "Switchable, groups": lambda ns, C: ns.Switchable(
        C, scopes=("group", "batch", "instance"), num_groups=2, per_group=2, unbiased=True
    ),
    "Representative": lambda ns, C: ns.Representative(C),
    "Representative, std": lambda ns, C: ns.Representative(C, center="std"),
    "Representative, spatial_mean": lambda ns, C: ns.Representative(C, center="spatial_mean"),
    "Representative, spatial_std": lambda ns, C: ns.Representative(C, center="spatial_std"),
    "FilterResponse": lambda ns, C: ns.FilterResponse(C),
    "Identity": lambda ns, C: ns.Identity(C),
}
RECALIBRATIONS = {
    "Affine": lambda ns, C: ns.Affine(C),
    "Attentive": lambda ns, C: ns.Attentive(C, 3),
    "Attentive, softmax": lambda ns, C: ns.Attentive(
        C, 3, attention_input="mean_std", attention_norm=False, attention_act="softmax"
    ),
    "Scaling": lambda ns, C: ns.Scaling(C),
    "Scaling, std": lambda ns, C: ns.Scaling(C, scale="std", restrict="tanh"),
    "Scaling, spatial_mean": lambda ns, C: ns.Scaling(C, scale="spatial_mean"),
    "Scaling, spatial_std": lambda ns, C: ns.Scaling(C, scale="spatial_std", restrict="hsigmoid"),
    "SqueezeExcite": lambda ns, C: ns.SqueezeExcite(C, 2),
    "SqueezeExcite, hsigmoid": lambda ns, C: ns.SqueezeExcite(C, 1, False, bias=False, gate="hsigmoid"),
    "EfficientChannelAttention": lambda ns, C: ns.EfficientChannelAttention(C, 3),
    "StyleRecalibration": lambda ns, C: ns.StyleRecalibration(C),
    "GatherExcite": lambda ns, C: ns.GatherExcite(C),
    "InstanceEnhancement": lambda ns, C: ns.InstanceEnhancement(C),
    "GlobalResponse": lambda ns, C: ns.GlobalResponse(C),
    "NormalizationAttention, l1": lambda ns, C: ns.NormalizationAttention(C),
    "NormalizationAttention, squared": lambda ns, C: ns.NormalizationAttention(C, similarity="squared"),
    "NormalizationAttention, dot": lambda ns, C: ns.NormalizationAttention(C, similarity="dot"),
    "NormalizationAttention, mean_difference": lambda ns, C: ns.NormalizationAttention(
        C, False, similarity="mean_difference"
    ),
    "NormalizationAttention, embedding": lambda ns, C: ns.NormalizationAttention(
        C, similarity="mean_difference", embedding=True, unbiased=True
    ),
    "NormalizationAttention, None": lambda ns, C: ns.NormalizationAttention(C, similarity=None),
}
PAIRS = list(itertools.product(STANDARDIZATIONS, RECALIBRATIONS))
# Gradients of gradients are calculated by plain PyTorch: one pair in five, each part in some.
SPREAD = [
    (first, second)
    for (i, first), (j, second) in itertools.product(enumerate(STANDARDIZATIONS), enumerate(RECALIBRATIONS))
    if (i + j) % 5 == 0
]


def build(standardize, recalibrate, C, act=None):
    """The fused pair and its reference, in float64."""
    layers = (
        ns.RecalibratedNorm(
            STANDARDIZATIONS[standardize](ns.standardizations, C),
            RECALIBRATIONS[recalibrate](ns.recalibrations, C),
            act,
        )
        for ns in (fusednorm, fusednorm.reference)
    )
    return tuple(layer.double() for layer in randomized(*layers))


def test_all_parts_are_here():
    for ns, parts in ((fusednorm.standardizations, STANDARDIZATIONS), (fusednorm.recalibrations, RECALIBRATIONS)):
        assert {name.split(",")[0] for name in parts} == set(ns.__all__)


@pytest.mark.parametrize(("backend", "standardize", "recalibrate"), list(drawn(PAIRS, triton=1, cuda=2)))
def test_like_the_reference(backend, standardize, recalibrate):
    """Results, gradients and buffers in training and in evaluation, float64."""
    for training, act in ((True, "relu"), (False, "silu")):
        assert_like_reference(backend, *build(standardize, recalibrate, 6, act), maps_like(4, 6, 5, 3), training)


def arguments(standardize, recalibrate, training=True):
    fused, _ = build(standardize, recalibrate, 4)
    call, parameters = function_of(fused.train(training), residual=False)
    return call, [maps_like(3, 4, 2, 3).requires_grad_(), *parameters]


@pytest.mark.parametrize(("backend", "standardize", "recalibrate"), list(drawn(PAIRS, cuda=0)))
def test_gradcheck(backend, standardize, recalibrate):
    for training in (True, False):
        call, inputs = arguments(standardize, recalibrate, training)
        with fusednorm.use_backend(backend):
            assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize(("backend", "standardize", "recalibrate"), list(drawn(SPREAD, cuda=0)))
def test_gradgradcheck(backend, standardize, recalibrate):
    call, inputs = arguments(standardize, recalibrate)
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize(("standardize", "recalibrate"), PAIRS)
def test_channels_differ(standardize, recalibrate):
    first, second = fusednorm.standardizations, fusednorm.recalibrations
    with pytest.raises(ValueError, match=r"recalibrate: expected 8 channels, as standardize has, got 4"):
        fusednorm.RecalibratedNorm(STANDARDIZATIONS[standardize](first, 8), RECALIBRATIONS[recalibrate](second, 4))


def test_parts_of_another_kind():
    batch, affine = fusednorm.standardizations.Batch(4), fusednorm.recalibrations.Affine(4)
    with pytest.raises(TypeError, match=r"standardize: expected one of fusednorm\.standardizations, got Affine"):
        fusednorm.RecalibratedNorm(affine, batch)
    with pytest.raises(TypeError, match=r"recalibrate: expected one of fusednorm\.recalibrations, got BatchNorm2d"):
        fusednorm.RecalibratedNorm(batch, torch.nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match=r"act: expected one of .*, got 'tanh'"):
        fusednorm.RecalibratedNorm(batch, affine, "tanh")


@pytest.mark.parametrize("name", STANDARDIZATIONS)
def test_standardization_alone(name):
    """Called by itself a standardization gives x_hat."""
    fused, plain = randomized(
        *(STANDARDIZATIONS[name](ns.standardizations, 4) for ns in (fusednorm, fusednorm.reference))
    )
    x = maps_like(3, 4, 2, 3)
    with fusednorm.use_backend("torch"):
        torch.testing.assert_close(fused.double()(x), plain.double()(x), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=r"x: expected 4 channels"):
        fused(maps_like(3, 8, 2, 3))


@pytest.mark.parametrize("name", RECALIBRATIONS)
def test_recalibration_alone(name):
    """Called by itself a recalibration takes x as x_hat."""
    fused, plain = randomized(*(RECALIBRATIONS[name](ns.recalibrations, 4) for ns in (fusednorm, fusednorm.reference)))
    x = maps_like(3, 4, 2, 3)
    with fusednorm.use_backend("torch"):
        torch.testing.assert_close(fused.double()(x), plain.double()(x, x), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=r"x: expected 4 channels"):
        fused(maps_like(3, 8, 2, 3))


@pytest.mark.parametrize("backend", QUICK)
def test_state_names(backend):
    """standardize.* and recalibrate.*, in the parts' own names."""
    layer, plain = build("Switchable", "StyleRecalibration", 4)
    assert layer.state_dict().keys() == plain.state_dict().keys()
    assert {"standardize.mean_weight", "standardize.running_var", "recalibrate.norm.running_mean"} <= set(
        layer.state_dict()
    )
