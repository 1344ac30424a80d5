"""Functions for `norm_layer=`."""

import functools
import pickle

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import norm_layers
from fusednorm.surgery import zoo

OF_BATCH = {
    "batch_norm": fusednorm.BatchNorm2d,
    "attentive_batch_norm": fusednorm.AttentiveBatchNorm2d,
    "representative_batch_norm": fusednorm.RepresentativeBatchNorm2d,
    "switchable_norm": fusednorm.SwitchableNorm2d,
    "squeeze_excite_batch_norm": fusednorm.RecalibratedNorm,
    "normalization_attention_batch_norm": fusednorm.RecalibratedNorm,
}
OF_GROUPS = {"group_norm": fusednorm.GroupNorm, "attentive_group_norm": fusednorm.AttentiveGroupNorm}


def test_all_are_here():
    assert set(norm_layers.__all__) == {*OF_BATCH, *OF_GROUPS}


@pytest.mark.parametrize("name", OF_BATCH)
def test_as_torch_calls_it(name):
    layer = getattr(norm_layers, name)(16, 1e-3, 0.01)
    assert type(layer) is OF_BATCH[name]
    standardize = getattr(layer, "standardize", layer)
    assert (standardize.eps, standardize.momentum) == (1e-3, 0.01)
    assert layer(torch.randn(2, 16, 4, 4)).shape == (2, 16, 4, 4)


@pytest.mark.parametrize("name", OF_GROUPS)
def test_groups(name):
    layer = getattr(norm_layers, name)(16, 4, eps=1e-3)
    assert type(layer) is OF_GROUPS[name]
    assert (layer.num_groups, layer.num_channels, layer.eps) == (4, 16, 1e-3)
    assert getattr(norm_layers, name)(64).num_groups == 32


@pytest.mark.parametrize("name", OF_BATCH)
@pytest.mark.parametrize("network", ["torchvision/resnet18", "torchvision/mobilenet_v2", "timm/resnet18"])
def test_in_networks(name, network):
    factory = getattr(norm_layers, name)
    model = zoo.build(network, num_classes=5, norm_layer=factory)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert sum(type(m) is OF_BATCH[name] for m in model.modules()) in (20, 52)
    model(torch.randn(2, 3, 40, 40)).sum().backward()
    pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    ("network", "act"),
    [
        ("timm/efficientnet_b0", "silu"),
        ("timm/regnetx_002", "relu"),
        ("timm/resnetv2_50", "relu"),
        ("timm/mobilenetv2_100", "relu6"),
    ],
)
def test_in_networks_that_leave_the_activation_to_it(network, act):
    """The same as with BatchNorm, which has it inside."""
    torch.manual_seed(0)
    plain = zoo.build(network, num_classes=5, norm_layer="batchnorm2d").eval()
    torch.manual_seed(0)
    factory = functools.partial(norm_layers.batch_norm, act=act)
    model = zoo.build(network, num_classes=5, norm_layer=factory).eval()
    model.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "act"),
    [
        ({}, None),
        ({"act": "relu"}, "relu"),
        ({"act": "relu", "apply_act": False}, None),
        ({"act_layer": nn.ReLU6, "act_kwargs": {"inplace": True}}, "relu6"),
        ({"act_layer": "swish"}, "silu"),
        ({"act_layer": nn.ReLU, "apply_act": False, "inplace": True, "drop_layer": None}, None),
    ],
)
def test_activations(options, act):
    assert norm_layers.attentive_batch_norm(8, **options).act == act
    assert norm_layers.group_norm(8, 2, **options).act == act


def test_options_are_the_layers():
    layer = norm_layers.attentive_batch_norm(
        8, num_components=3, attention_input="mean", device="meta", dtype=torch.bfloat16
    )
    assert layer.weight.shape == (3, 8)
    assert (layer.weight.device.type, layer.weight.dtype) == ("meta", torch.bfloat16)
    assert norm_layers.switchable_norm(8, dims=3).dims == (5,)
    assert norm_layers.batch_norm(8, affine=False, track_running_stats=False).state_dict() == {}
    assert norm_layers.squeeze_excite_batch_norm(8, reduction=2).recalibrate.reduce.out_features == 4


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"act_layer": nn.ELU}, ValueError, "act_layer: expected an activation that the layers have, got ELU"),
        ({"act_layer": "elu"}, ValueError, "act: expected .*, got 'elu'"),
        ({"drop_layer": nn.Dropout}, ValueError, "drop_layer: expected None, the layers have no dropout inside"),
        ({"components": 3}, TypeError, "components"),
    ],
)
def test_refuses(options, error, text):
    with pytest.raises(error, match=text):
        norm_layers.attentive_batch_norm(8, **options)
