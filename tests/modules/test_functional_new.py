"""Functions of fusednorm.functional, given a module's tensors, are the module."""

import copy

import pytest
import torch

import fusednorm
import fusednorm.functional as F
from tests.cases import FURTHER, QUICK, maps_like, pair

C = 6


def tensors(layer, *names):
    return {name: getattr(layer, name) for name in names}


def embedding_of(layer):
    return tuple(p for network in (layer.query, layer.key) if network is not None for p in network.parameters())


def squeeze(layer):
    weights = {"reduce_weight": layer.reduce.weight, "expand_weight": layer.expand.weight}
    return weights | {"reduce_bias": layer.reduce.bias, "expand_bias": layer.expand.bias}


def norm(layer):
    own = tensors(layer.norm, "weight", "bias", "running_mean", "running_var")
    return F.AttentionNorm(**own, counter=layer.norm.num_batches_tracked)


RUNNING = ("running_mean", "running_var")
AFFINE = ("weight", "bias")
CENTRED = (*AFFINE, "center_weight", "scale_weight", "scale_bias", *RUNNING)
RATIOS = ("mean_weight", "var_weight", *RUNNING, *AFFINE)
# Name -> (layer, its function's name, arguments of a layer, whether it has modes).
FUNCTIONS = {
    "representative_batch_norm": (
        lambda: fusednorm.RepresentativeBatchNorm2d(C, act="relu"),
        lambda layer: tensors(layer, *CENTRED),
    ),
    "representative_batch_norm, options": (
        lambda: fusednorm.RepresentativeBatchNorm2d(
            C, 1e-3, 0.3, center="std", scale="spatial_mean", restrict="tanh", act="relu"
        ),
        lambda layer: (
            tensors(layer, *CENTRED)
            | {"eps": 1e-3, "momentum": 0.3, "center": "std", "scale": "spatial_mean", "restrict": "tanh"}
        ),
    ),
    "switchable_norm": (
        lambda: fusednorm.SwitchableNorm2d(C, act="relu"),
        lambda layer: tensors(layer, *RATIOS),
    ),
    "switchable_norm, options": (
        lambda: fusednorm.SwitchableNorm2d(
            C, 1e-3, 0.3, scopes=("group", "batch"), num_groups=2, per_group=3, unbiased=True, act="relu"
        ),
        lambda layer: (
            tensors(layer, *RATIOS)
            | {"eps": 1e-3, "momentum": 0.3, "scopes": ("group", "batch"), "num_groups": 2, "unbiased": True}
        ),
    ),
    "squeeze_excite": (
        lambda: fusednorm.SqueezeExcite(C, 2, gate="tanh", act="relu"),
        lambda layer: squeeze(layer) | {"gate": "tanh"},
    ),
    "squeeze_excite, no bias": (lambda: fusednorm.SqueezeExcite(C, 2, bias=False, act="relu"), squeeze),
    "efficient_channel_attention": (
        lambda: fusednorm.EfficientChannelAttention(C, 3, gate="hsigmoid", act="relu"),
        lambda layer: {"conv_weight": layer.conv.weight, "gate": "hsigmoid"},
    ),
    "style_recalibration": (
        lambda: fusednorm.StyleRecalibration(C, eps=1e-2, act="relu"),
        lambda layer: {"style_weight": layer.style_weight, "norm": norm(layer), "eps": 1e-2},
    ),
    "gather_excite": (lambda: fusednorm.GatherExcite(C, act="relu"), lambda layer: {}),
    "global_response_norm": (
        lambda: fusednorm.GlobalResponseNorm(C, 1e-2, act="relu"),
        lambda layer: tensors(layer, *AFFINE) | {"eps": 1e-2},
    ),
    "instance_enhancement_batch_norm": (
        lambda: fusednorm.InstanceEnhancementBatchNorm2d(C, 1e-3, 0.3, act="relu"),
        lambda layer: (
            tensors(layer, *RUNNING, *AFFINE, "enhance_weight", "enhance_bias") | {"eps": 1e-3, "momentum": 0.3}
        ),
    ),
    "filter_response_norm": (
        lambda: fusednorm.FilterResponseNorm(C, 1e-2),
        lambda layer: tensors(layer, *AFFINE, "threshold") | {"eps": 1e-2},
    ),
    "filter_response_norm, no threshold": (
        lambda: fusednorm.FilterResponseNorm(C, threshold=False),
        lambda layer: tensors(layer, *AFFINE),
    ),
    "normalization_attention": (
        lambda: fusednorm.NormalizationAttention(act="relu"),
        lambda layer: tensors(layer, "gain", "offset"),
    ),
    "normalization_attention, options": (
        lambda: fusednorm.NormalizationAttention(
            similarity="mean_difference", embedding=True, unbiased=True, eps=1e-2, act="relu"
        ),
        lambda layer: (
            tensors(layer, "gain", "offset")
            | {"similarity": "mean_difference", "embedding": embedding_of(layer), "unbiased": True, "eps": 1e-2}
        ),
    ),
}
HAVE_MODES = ("representative_batch_norm", "switchable_norm", "style_recalibration", "instance_enhancement_batch_norm")


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("backend", QUICK)
def test_like_the_module(backend, name, training):
    """Bit for bit: result, gradients, statistics."""
    make, arguments = FUNCTIONS[name]
    layer = make().train(training)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    other = copy.deepcopy(layer)
    call = name.split(",")[0]
    options = arguments(other) | ({"training": training} if call in HAVE_MODES else {})
    options |= {"act": layer.act} if layer.act else {}
    x, residual = (maps_like(4, C, 5, 3).float().requires_grad_() for _ in range(2))
    with fusednorm.use_backend(backend):
        ours, theirs = layer(x, residual), getattr(F, call)(x, residual=residual, **options)
        assert torch.equal(ours, theirs)
        parameters = [list(module.parameters()) for module in (layer, other)]
        for a, b in zip(
            *(
                torch.autograd.grad(y.square().sum(), [x, residual, *p])
                for y, p in zip((ours, theirs), parameters, strict=True)
            ),
            strict=True,
        ):
            assert torch.equal(a, b)
    for key, buffer in other.named_buffers():
        if "num_batches" not in key or "norm." in key:  # BatchNorm's function counts no batches, as torch's
            assert torch.equal(buffer, dict(layer.named_buffers())[key]), key


def test_every_function_is_here():
    older = {"AttentionNorm", "attentive_batch_norm", "attentive_group_norm", "batch_norm", "group_norm"}
    ours = {name.split(",")[0] for name in FUNCTIONS}
    assert ours == set(F.__all__) - older - {"fused_norm"}  # test_own_head.py


@pytest.mark.parametrize("kind", [kind for kind in FURTHER if kind != "filter response"])
def test_every_layer_takes_an_activation(kind):
    """But for the one whose threshold is its activation."""
    layer, plain = pair(kind, 4, C, act="gelu")
    x, residual = maps_like(4, C, 5, 3), torch.randn(4, C, 5, 3).double()
    with fusednorm.use_backend("torch"):
        torch.testing.assert_close(layer.double()(x, residual), plain.double()(x, residual))
