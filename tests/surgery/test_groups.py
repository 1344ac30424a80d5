"""Which parameters decay."""

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations, parametrize

import fusednorm
from fusednorm import recalibrations, standardizations
from fusednorm.surgery import zoo


def names(model, weight_decay=0.1):
    of = {id(p): name for name, p in model.named_parameters()}
    decay, none = fusednorm.parameter_groups(model, weight_decay)
    assert (decay["weight_decay"], none["weight_decay"]) == (weight_decay, 0.0)
    return {of[id(p)] for p in decay["params"]}, {of[id(p)] for p in none["params"]}


def test_every_layer():
    model = nn.ModuleDict(
        {
            "an": fusednorm.AttentiveBatchNorm2d(8, 4),
            "rbn": fusednorm.RepresentativeBatchNorm2d(8),
            "sn": fusednorm.SwitchableNorm2d(8, per_group=2),
            "se": fusednorm.RecalibratedNorm(standardizations.Batch(8), recalibrations.SqueezeExcite(8, 2)),
            "eca": fusednorm.RecalibratedNorm(standardizations.Batch(8), recalibrations.EfficientChannelAttention(8)),
            "srm": fusednorm.RecalibratedNorm(standardizations.Batch(8), recalibrations.StyleRecalibration(8)),
            "na": fusednorm.NormalizationAttention(),
            "alone": nn.Sequential(standardizations.Switchable(8), recalibrations.Attentive(8, 4)),
            "lstm": nn.LSTM(3, 3),
            "gn": fusednorm.GroupNorm(2, 8),
            "bn": nn.BatchNorm2d(8),
            "ln": nn.LayerNorm((8, 2)),
            "conv": nn.Conv2d(8, 8, 3),
            "linear": nn.Linear(8, 8),
        }
    )
    decay, none = names(model)
    assert decay == {
        "an.attention.weight",
        "alone.1.attention.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "se.recalibrate.reduce.weight",
        "se.recalibrate.expand.weight",
        "eca.recalibrate.conv.weight",
        "conv.weight",
        "linear.weight",
    }
    assert decay | none == {name for name, _ in model.named_parameters()}
    assert not decay & none


class Unit(nn.Module):
    def forward(self, t):
        return t


class OwnBatchNorm(_BatchNorm):
    def _check_input_dim(self, x):
        pass


def test_parametrized():
    """A parameter is what it is when it is calculated from others too."""
    an = fusednorm.AttentiveBatchNorm2d(8, 4)
    parametrizations.weight_norm(an.attention, "weight")
    parametrizations.weight_norm(an, "weight")
    conv = nn.Conv2d(8, 8, 3)
    parametrize.register_parametrization(conv, "bias", Unit())
    decay, none = names(nn.ModuleDict({"an": an, "conv": conv, "bn": OwnBatchNorm(8)}))
    linear = "an.attention.parametrizations.weight.original"
    assert decay == {f"{linear}0", f"{linear}1", "conv.weight"}
    mixture = {"an.parametrizations.weight.original0", "an.parametrizations.weight.original1", "an.bias"}
    norms = {f"{layer}.{name}" for layer in ("an.attention_norm", "bn") for name in ("weight", "bias")}
    assert none == mixture | norms | {"conv.parametrizations.bias.original"}


def test_a_network_decays_as_its_batch_norms():
    """What RBN, SN and AN add to a ResNet, whatever its shape, decays as little as BatchNorm's weights do."""
    with torch.device("meta"):
        plain, _ = names(zoo.build("resnet18"))
        for recipe in ("representative", "switchable", "normalization_attention"):
            decay, _ = names(fusednorm.convert(zoo.build("resnet18"), recipe).model)
            assert decay == plain
        decay, _ = names(fusednorm.convert(zoo.build("resnet18"), "attentive").model)
        added = {f"layer{i}.{j}.bn2.attention.weight" for i in (1, 2, 3, 4) for j in (0, 1)}
        assert decay - plain == added


def test_leaves_out_what_is_frozen_and_takes_shared_ones_once():
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer, fusednorm.freeze(fusednorm.BatchNorm1d(3)))
    assert names(model) == ({"0.weight"}, {"0.bias"})
    optimizer = torch.optim.SGD(fusednorm.parameter_groups(model, 1e-4), lr=0.1)
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([], 0.1), TypeError, r"model: expected an nn\.Module, got list"),
        ((nn.Linear(2, 2), "0.1"), TypeError, "weight_decay: expected a number, got '0.1'"),
        ((nn.Linear(2, 2), -1), ValueError, "weight_decay: expected at least 0, got -1"),
        ((nn.Linear(2, 2), float("nan")), ValueError, "weight_decay: expected at least 0, got nan"),
    ],
)
def test_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        fusednorm.parameter_groups(*arguments)
