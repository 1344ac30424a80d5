"""Frozen parts: what learns, what stays, and which kernels run."""

import copy
import pickle

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import recalibrations, standardizations
from fusednorm.surgery import zoo

from .networks import network, picture


def trained(model, steps=2):
    """The state dict's entries that training changes."""
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        torch.manual_seed(step)
        (model(picture()).square().sum()).backward()
        optimizer.step()
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_as_the_paper_fine_tunes():
    """AN section 4.3: stem and first stage frozen, of the rest the mixtures and statistics; attention learns."""
    model, _ = fusednorm.convert(network("torchvision/resnet18"), "attentive")
    names = set(model.state_dict())
    assert fusednorm.freeze(model, "standardization", "stem", "stage1") is model
    assert set(model.state_dict()) == names
    changed = trained(model)
    assert not {name for name in changed if name.startswith(("conv1.", "bn1.", "layer1."))}
    attention = {name for name in names if ".attention" in name and not name.startswith("layer1.")}
    weights = {n for n in names if n.startswith(("layer2", "layer3", "layer4", "fc")) and ("conv" in n or "fc." in n)}
    weights |= {f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4)}
    assert changed == attention | weights


def test_frozen_statistics_serve_in_training():
    """A frozen layer gives in training what it gives in evaluation, with the gradients of torch's evaluation."""
    x = picture()
    for layer, plain in (
        (fusednorm.BatchNorm2d(3), nn.BatchNorm2d(3)),
        (fusednorm.RecalibratedNorm(standardizations.Batch(3), recalibrations.GatherExcite(3)), None),
        (fusednorm.RepresentativeBatchNorm2d(3), None),
        (fusednorm.SwitchableNorm2d(3), None),
        (fusednorm.AttentiveBatchNorm2d(3, 4, attention_norm=False), None),
    ):
        layer.double()
        state = copy.deepcopy(layer.state_dict())
        fusednorm.freeze(layer)
        for _ in range(3):  # the first is recorded, the next replayed
            own = x.clone().requires_grad_()
            y = layer.train()(own)
            y.sum().backward()
        assert torch.equal(y, layer.eval()(x))
        for name, value in layer.state_dict().items():
            assert torch.equal(value, state[name])
        if plain is not None:
            other = x.clone().requires_grad_()
            plain.double().eval()(other).sum().backward()
            torch.testing.assert_close(own.grad, other.grad)
            assert layer.weight.grad is None


def test_a_layer_that_was_called_before():
    """Calls are replayed natively: freezing must reach them."""
    layer, x = fusednorm.BatchNorm2d(3), picture().float()
    for _ in range(3):
        layer(x)
    state = copy.deepcopy(layer.state_dict())
    fusednorm.freeze(layer)
    layer(x + 5)
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())
    fusednorm.unfreeze(layer)
    layer(x + 5)
    assert not torch.equal(layer.running_mean, state["running_mean"])


def test_frozen_layers_keep_their_kernels():
    if not fusednorm.backends()["cpu"].available:
        pytest.skip("no native kernels")
    layer, x = fusednorm.freeze(fusednorm.AttentiveBatchNorm2d(3, 4)), picture().float().requires_grad_()
    with torch.profiler.profile() as profile:
        layer(x).sum().backward()
    names = {event.key for event in profile.key_averages()}
    assert {"fusednorm::norm_forward", "fusednorm::norm_backward"} <= names


def test_unfreezes_what_it_froze():
    model = network("torchvision/resnet18")
    model.fc.weight.requires_grad_(False)
    model.bn1.bias.requires_grad_(False)
    fusednorm.freeze(model, "standardization", "stem", "stage2")
    fusednorm.unfreeze(model)
    held = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert held == {"fc.weight", "bn1.bias"}
    assert not any(getattr(m, "frozen", False) for m in model.modules())
    assert "bn1.running_mean" in trained(model)
    with pytest.raises(ValueError, match=r"expected one that fusednorm\.freeze has frozen"):
        fusednorm.unfreeze(model)


def test_shared_and_tied():
    """One BatchNorm in two places is one of ours in both; tied weights stay tied, and are the very tensors."""
    shared, tied = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    tied.weight = shared.weight
    model = nn.Sequential(shared, nn.Sequential(nn.Conv2d(3, 3, 1), shared), tied).double()
    tensors = [*model.parameters(), *model.buffers()]
    fusednorm.freeze(model)
    assert model[0] is model[1][1]
    assert all(a is b for a, b in zip([*model.parameters(), *model.buffers()], tensors, strict=True))
    assert model[0].weight is model[2].weight
    assert all(name.startswith("1.0.") for name in trained(model))
    fusednorm.unfreeze(model)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_stay_frozen(copied):
    model = copied(fusednorm.freeze(network("torchvision/resnet18"), "standardization"))
    assert not {name for name in trained(model) if "bn" in name}
    fusednorm.unfreeze(model)
    assert "bn1.weight" in trained(model)


def test_stem_and_stages_by_structure():
    for name, stem, stage in (
        ("densenet121", ["features.conv0", "features.norm0"], "features.denseblock1."),
        ("mobilenet_v2", ["features.0."], "features.1."),
        ("timm/resnet50d", ["conv1.", "bn1"], "layer1."),
        ("timm/efficientnet_b0", ["conv_stem.", "bn1."], "blocks.0."),  # the activation is a module in timm's bn1
        ("timm/regnety_002", ["stem."], "s1."),
    ):
        with torch.device("meta"):
            model = fusednorm.freeze(zoo.build(name), "stem", "stage1")
        held = {key for key, p in model.named_parameters() if not p.requires_grad}
        assert held
        expected = {key for key, _ in model.named_parameters() if key.startswith((*stem, stage))}
        assert held == expected


def test_scopes_without_statistics():
    layer = fusednorm.SwitchableNorm2d(4, scopes=("instance", "layer"))
    fusednorm.freeze(layer)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["mean_weight", "var_weight"]


@pytest.mark.parametrize(
    ("model", "what", "text"),
    [
        (nn.Sequential(nn.Conv2d(3, 3, 1)), (), "expected a normalization to freeze, there is none"),
        (nn.Sequential(nn.BatchNorm2d(3)), ("stem",), "expected a network of blocks for 'stem', there are none"),
        (nn.Sequential(nn.BatchNorm2d(3)), ("head",), "expected 'standardization', 'stem' or 'stage1', .*, got 'head'"),
        (
            nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3, track_running_stats=False)),
            (),
            "expected running statistics to freeze, '1' has none",
        ),
        (nn.BatchNorm2d(3), (), "expected a network, got a BatchNorm of torch's alone"),
    ],
)
def test_refuses(model, what, text):
    with pytest.raises(ValueError, match=text):
        fusednorm.freeze(model, *what)
    assert all(p.requires_grad for p in model.parameters())
    assert not any(getattr(m, "frozen", False) for m in model.modules())


def test_refuses_stages_that_are_not_there():
    with torch.device("meta"), pytest.raises(ValueError, match=r"expected a stage of 1 to 4, .*, got 'stage5'"):
        fusednorm.freeze(zoo.build("resnet18"), "stage5")


def test_average_statistics_of_a_frozen_layer():
    layer, x = fusednorm.freeze(fusednorm.BatchNorm2d(3).double()), picture()
    fusednorm.average_statistics(layer, [x])
    torch.testing.assert_close(layer.running_mean, x.mean((0, 2, 3)))
    assert layer.frozen
