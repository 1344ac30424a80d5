"""Converted networks of torchvision and timm: where layers go, what they give, and the way back."""

import copy
import pickle

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm.surgery import zoo

from .networks import EXPECTED, network, picture

BN_NETWORKS = [name for name in EXPECTED if name != "timm/resnet50_gn"]
HEAVY = ("torchvision/resnext50_32x4d", "torchvision/densenet121", "timm/densenet121", "timm/res2net50_26w_4s")
# Recipes that can start as the network was.
STARTING = ("batch", "representative", "attentive", "normalization_attention", "squeeze_excite")


def grown(model, x):
    """y, and gradients by name, in training."""
    model.train()
    model.zero_grad()
    y = model(x)
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    (y * weight).sum().backward()
    return y.detach(), {name: p.grad for name, p in model.named_parameters()}


def close(found, expected, tolerance=1e-9):
    scale = max(expected.abs().max().item(), 1e-12)
    assert (found - expected).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize("name", EXPECTED)
def test_fused_as_it_was(name):
    """The same layers, fused and folded: outputs, gradients, running statistics and state dict are the network's."""
    model, x = network(name), picture()
    before = copy.deepcopy(model)
    converted, report = fusednorm.convert(model, "batch", fold=True)
    assert converted is model
    assert len(report.replaced) == EXPECTED[name][1]
    assert not report.left
    assert list(model.state_dict()) == list(before.state_dict())
    (y, grads), (y0, grads0) = grown(model, x), grown(before, x)
    close(y, y0)
    assert list(grads) == list(grads0)
    largest = max(grad.abs().max().item() for grad in grads0.values())
    for key, grad in grads0.items():
        assert (grads[key] - grad).abs().max().item() <= 1e-9 * largest, key
    for key, value in before.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        close(model.eval()(x), before.eval()(x))


@pytest.mark.parametrize("recipe", STARTING[1:])
@pytest.mark.parametrize(
    "name", ["torchvision/resnet18", "torchvision/mobilenet_v2", "timm/densenet121", "timm/resnet18"]
)
def test_starts_as_it_was(name, recipe):
    model, x = network(name).eval(), picture()
    with torch.no_grad():
        before = model(x)
        fusednorm.convert(model, recipe, preserve=True, fold=True)
        close(model(x), before)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [pytest.param(name, "attentive", marks=pytest.mark.slow if name in HEAVY else ()) for name in BN_NETWORKS]
    + [
        (name, recipe)
        for name in ("torchvision/resnet18", "torchvision/mobilenet_v3_small", "timm/mobilenetv2_100")
        for recipe in ("representative", "switchable", "normalization_attention", "squeeze_excite")
    ],
)
def test_folded_gives_what_it_gave(name, recipe):
    """Forward, backward and running statistics in training, with and without folding."""
    plain, _ = fusednorm.convert(network(name), recipe)
    folded, report = fusednorm.convert(copy.deepcopy(fusednorm.revert(copy.deepcopy(plain))), recipe, fold=True)
    assert report.replaced
    folded.load_state_dict(plain.state_dict())
    x = picture()
    (y, grads), (y0, grads0) = grown(folded, x), grown(plain, x)
    close(y, y0)
    largest = max(grad.abs().max().item() for grad in grads0.values() if grad is not None)
    for key, grad in grads0.items():
        if grad is None:
            assert grads[key] is None
        else:
            assert (grads[key] - grad).abs().max().item() <= 1e-8 * largest, key
    for (key, buffer), expected in zip(folded.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, rtol=1e-9, atol=1e-9, msg=key)


@pytest.mark.parametrize("name", BN_NETWORKS)
def test_attentive_goes_where_the_paper_has_it(name):
    """Fig. 2: the normalization at the last convolution of more than one position of every block, and nothing else."""
    with torch.device("meta"):
        model, report = fusednorm.convert(zoo.build(name), "attentive")
    assert len(report.replaced) == EXPECTED[name][0]
    kinds = [type(m).__name__ for m in model.modules()]
    assert kinds.count("AttentiveBatchNorm2d") == EXPECTED[name][0]
    K = [model.get_submodule(row.name).num_components for row in report.replaced]
    assert sorted(K) == K
    assert set(K) == {10, 20}


@pytest.mark.parametrize("recipe", [*STARTING, "switchable"])
def test_reverts(recipe):
    model, x = network("torchvision/resnet18").eval(), picture()
    modules, state = dict(model.named_modules()), copy.deepcopy(model.state_dict())
    with torch.no_grad():
        before = model(x)
        fusednorm.convert(model, recipe, fold=True)
        fusednorm.convert(model, "batch", where="network") if recipe == "attentive" else None
        assert fusednorm.revert(model) is model
        assert torch.equal(model(x), before)
    assert dict(model.named_modules()) == modules
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    with pytest.raises(ValueError, match=r"expected one that fusednorm\.convert has changed"):
        fusednorm.revert(model)


def test_reverts_to_where_the_network_went():
    model, _ = fusednorm.convert(network("torchvision/resnet18"), "attentive")
    model.float().train()
    fusednorm.revert(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(m.training for m in model.modules())


def test_copies_and_pickles():
    model, x = network("torchvision/resnet18").eval(), picture()
    fusednorm.convert(model, "attentive", fold=True)
    with torch.no_grad():
        expected = model(x)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(copied(x), expected)
            assert type(fusednorm.revert(copied).layer1[0].bn2) is nn.BatchNorm2d
        assert torch.equal(model(x), expected)


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v2", "timm/resnet18"])
def test_state_dict_between_converted_networks(name):
    """Names are the network's own: what one converted network saved another loads, folded or not."""
    one, _ = fusednorm.convert(network(name, 0), "attentive", fold=True)
    other, _ = fusednorm.convert(network(name, 3), "attentive")
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        close(other.eval()(picture()), one.eval()(picture()))


def test_weights_and_statistics_are_carried_over():
    old = network("torchvision/resnet18").layer2[0].bn2
    for recipe in ("representative", "switchable", "batch"):
        new = fusednorm.convert(copy.deepcopy(old), recipe).model
        for key, value in old.state_dict().items():
            assert torch.equal(new.state_dict()[key], value), (recipe, key)
        assert (new.eps, new.momentum) == (old.eps, old.momentum)
    new = fusednorm.convert(copy.deepcopy(old), "attentive", where="network").model
    assert torch.equal(new.running_var, old.running_var)
    assert new.weight.dtype == torch.float64
    gated = fusednorm.convert(copy.deepcopy(old), "squeeze_excite", where="network").model
    assert torch.equal(gated.recalibrate.weight, old.weight)
    assert torch.equal(gated.standardize.running_mean, old.running_mean)


def test_frozen_stays_frozen():
    old = nn.BatchNorm2d(8).requires_grad_(False).eval()
    new = fusednorm.convert(old, "representative").model
    assert [name for name, p in new.named_parameters() if not p.requires_grad] == ["weight", "bias"]
    assert not new.training


def test_dry_run_changes_nothing():
    model = network("torchvision/resnet18")
    modules, state = dict(model.named_modules()), torch.random.get_rng_state()
    same, report = fusednorm.convert(model, "attentive", fold=True, dry_run=True)
    assert same is model
    assert dict(model.named_modules()) == modules
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(report.replaced) == 8
    assert "if it were done" in str(report)
    assert report.parameters[1] == fusednorm.convert(model, "attentive").report.parameters[1]


def test_report_is_a_table():
    with torch.device("meta"):
        _, report = fusednorm.convert(zoo.build("resnet50"), "attentive")
    lines = str(report).splitlines()
    assert lines[0] == "attentive: 16 layers replaced"
    assert lines[2].split() == ["layer1.0.bn2", "1", "BatchNorm2d(64)", "AttentiveBatchNorm2d(64,", "K=10)"]
    assert lines[-1] == "parameters: 25,557,032 before, 25,755,420 after (+198,388)"
