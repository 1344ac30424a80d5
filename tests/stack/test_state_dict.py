"""State dicts to and from nn.BatchNorm, strict loading, assignment, layers made on the meta device.

Names and shapes, copies, official checkpoints: tests/modules/test_buffers.py, tests/test_official*.py.
"""

import copy

import pytest
import torch
from torch import nn

import fusednorm
from tests.cases import FURTHER, LAYERS
from tests.stack.layers import KINDS, OWN, OwnHead, layer, maps, network

PLAIN = {
    "batch": (fusednorm.BatchNorm2d, nn.BatchNorm2d),
    "group": (lambda c: fusednorm.GroupNorm(2, c), lambda c: nn.GroupNorm(2, c)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_torchs_layers_both_ways(kind):
    """The same names and metadata: strict loading in both directions, with the same results."""
    make_ours, make_theirs = PLAIN[kind]
    theirs, x = make_theirs(8), torch.randn(4, 8, 6, 5)
    theirs(x)
    ours = make_ours(8)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    back = make_theirs(8)
    back.load_state_dict(ours.state_dict())
    for name, t in theirs.state_dict().items():
        assert torch.equal(back.state_dict()[name], t)


def test_batch_norm_into_attention():
    """By convert_state_dict, where it has a meaning: RBN and SN start as the BatchNorm that they take over."""
    theirs, x = nn.BatchNorm2d(8), torch.randn(4, 8, 6, 5)
    for _ in range(3):
        theirs(x)
    ours = fusednorm.RepresentativeBatchNorm2d(8)
    with pytest.raises(RuntimeError, match="Missing key"):
        ours.load_state_dict(theirs.state_dict())
    converted = fusednorm.official.convert_state_dict(ours, theirs.state_dict())
    ours.load_state_dict(converted)
    assert set(converted.initialized) == {"center_weight", "scale_weight", "scale_bias"}
    gate = torch.sigmoid(torch.ones(()))
    y, z = ours.eval()(x), theirs.eval()(x)
    bias = theirs.bias.view(-1, 1, 1)
    torch.testing.assert_close(y, (z - bias) * gate + bias)


@pytest.mark.parametrize("kind", KINDS)
def test_assign(kind):
    """The parameters loaded are the module's from then on, also where calls had been recorded with the old."""
    donor, ours = layer(kind), layer(kind)
    inputs = maps()
    for _ in range(2):
        ours(*inputs)
    state = copy.deepcopy(donor.state_dict())
    ours.load_state_dict(state, assign=True)
    for name, p in ours.named_parameters():
        assert p.data_ptr() == state[name].data_ptr()
        assert isinstance(p, nn.Parameter)
        assert p.requires_grad
    y = ours(*inputs)
    torch.testing.assert_close(y, donor(*inputs))
    y.sum().backward()
    for a, b in zip(ours.buffers(), donor.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def on_meta(kind):
    with torch.device("meta"):
        if kind == OWN:
            return fusednorm.FusedNorm(OwnHead(8), "relu")
        return layer(kind)


@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_meta_device(kind):
    """Made without memory; shapes go through; then given a state dict's tensors, it is that layer."""
    ours, donor = on_meta(kind), layer(kind)
    assert all(t.is_meta for t in (*ours.parameters(), *ours.buffers()))
    assert ours(*(t.to("meta") for t in maps())).shape == (4, 8, 6, 5)
    ours.load_state_dict(copy.deepcopy(donor.state_dict()), assign=True)
    inputs = maps()
    assert torch.equal(ours(*inputs), donor(*inputs))


@pytest.mark.parametrize("kind", KINDS)
def test_to_empty(kind):
    """to_empty and reset_parameters give what the constructor gives, buffers too."""
    torch.manual_seed(0)
    ours = on_meta(kind).to_empty(device="cpu")
    for t in (*ours.parameters(), *ours.buffers()):
        t.data.fill_(7)
    for m in ours.modules():  # as torch's own tools do, on every module that has it
        if hasattr(m, "reset_parameters"):
            m.reset_parameters()
    fresh = (LAYERS | FURTHER)[kind](fusednorm, 4, 8, act="relu")
    drawn = ("attention.weight", "weight", "bias", "reduce", "expand")
    for (name, a), b in zip(ours.state_dict().items(), fresh.state_dict().values(), strict=True):
        random = "attentive" in kind or "squeeze" in kind
        assert torch.equal(a, b) or (random and any(word in name for word in drawn)), name
        assert a.dtype == b.dtype
        assert not (a == 7).any()


def test_hooks():
    """Hooks before and after loading see every layer's keys, and may rename them."""
    model, seen = network(), []
    old = {f"model.{name}": t for name, t in copy.deepcopy(model).state_dict().items()}

    def rename(module, state, prefix, *_):
        for name in list(state):
            if name.startswith("model."):
                state[name.removeprefix("model.")] = state.pop(name)

    model.register_load_state_dict_pre_hook(rename)
    model.blocks[0].norm2.register_load_state_dict_pre_hook(lambda module, state, prefix, *_: seen.append(prefix))
    model.blocks[0].norm2.register_load_state_dict_post_hook(lambda module, keys: seen.append(keys.missing_keys))
    model.load_state_dict(old)
    assert seen == ["blocks.0.norm2.", []]
    with pytest.raises(RuntimeError, match=r"Missing key.*\n?.*blocks\.0\.norm2\.attention\.weight"):
        network().load_state_dict({k: v for k, v in model.state_dict().items() if "norm2.attention.weight" not in k})
