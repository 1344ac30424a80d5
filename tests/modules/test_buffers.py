"""Running statistics as torch keeps them; state dicts; initialization; copies."""

import copy
import pickle

import pytest
import torch
from torch import nn

import fusednorm
from tests.cases import BACKENDS, FURTHER, LAYERS, OVER_BATCH, drawn, pair

TORCH = {
    2: (nn.BatchNorm1d, fusednorm.BatchNorm1d, (5, 6)),
    3: (nn.BatchNorm1d, fusednorm.BatchNorm1d, (5, 6, 7)),
    4: (nn.BatchNorm2d, fusednorm.BatchNorm2d, (5, 6, 4, 3)),
    5: (nn.BatchNorm3d, fusednorm.BatchNorm3d, (5, 6, 4, 3, 2)),
}


@pytest.mark.parametrize(
    "options", [{}, {"momentum": None}, {"momentum": 0.3, "affine": False}, {"track_running_stats": False}]
)
@pytest.mark.parametrize("dims", TORCH)
@pytest.mark.parametrize("backend", BACKENDS)
def test_like_torch(backend, dims, options):
    theirs, ours, shape = TORCH[dims][0](6, **options), TORCH[dims][1](6, **options), TORCH[dims][2]
    theirs.load_state_dict(ours.state_dict())
    with fusednorm.use_backend(backend):
        for _ in range(3):
            x = torch.randn(shape) * 2 + 1
            torch.testing.assert_close(ours(x), theirs(x))
        ours.eval(), theirs.eval()
        torch.testing.assert_close(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_group_norm_like_torch(backend):
    ours, theirs = fusednorm.GroupNorm(3, 6), nn.GroupNorm(3, 6)
    x = torch.randn(4, 6, 5, 3)
    with fusednorm.use_backend(backend):
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("backend", BACKENDS)
def test_attentive_statistics(backend, momentum):
    """The layer's own as BatchNorm's, whatever the attention; the attention's with momentum 0.1 always."""
    layer = fusednorm.AttentiveBatchNorm2d(6, 3, momentum=momentum)
    plain = fusednorm.reference.AttentiveBatchNorm2d(6, 3, momentum=momentum)
    plain.load_state_dict(layer.state_dict())
    batch = nn.BatchNorm2d(6, momentum=momentum)
    with fusednorm.use_backend(backend):
        for _ in range(3):
            x = torch.randn(4, 6, 5, 3) + 1
            layer(x), plain(x), batch(x)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(getattr(layer, name), getattr(batch, name))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value)
    assert layer.attention_norm.num_batches_tracked == 3


def test_state_dict_keys():
    norm = [f"attention_norm.{k}" for k in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    own = ["running_mean", "running_var", "num_batches_tracked"]
    assert set(fusednorm.AttentiveBatchNorm2d(4).state_dict()) == {"weight", "bias", "attention.weight", *norm, *own}
    assert set(fusednorm.AttentiveGroupNorm(2, 4).state_dict()) == {
        "weight",
        "bias",
        "attention.weight",
        "attention.bias",
    }
    untracked = fusednorm.AttentiveBatchNorm2d(4, track_running_stats=False).state_dict()
    assert set(untracked) == {"weight", "bias", "attention.weight", "attention_norm.weight", "attention_norm.bias"}


def test_shapes():
    layer = fusednorm.AttentiveBatchNorm2d(6, 3, attention_input="mean_std", attention_norm=False)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {"weight": (3, 6), "bias": (3, 6), "attention.weight": (3, 12), "attention.bias": (3,)}


def test_initialization():
    """AN section 4: gamma ~ 1 + 0.1 N(0, 1), beta ~ 0.1 N(0, 1); He's for the attention, by fan out."""
    layer = fusednorm.AttentiveBatchNorm2d(4096, 20, attention_norm=False)
    assert abs(layer.weight.mean() - 1) < 1e-3
    assert abs(layer.weight.std() - 0.1) < 1e-3
    assert abs(layer.bias.mean()) < 1e-3
    assert abs(layer.bias.std() - 0.1) < 1e-3
    assert abs(layer.attention.weight.std() - (2 / 20) ** 0.5) < 2e-3
    assert torch.equal(layer.attention.bias, torch.zeros(20))


@pytest.mark.parametrize("kind", [*LAYERS, *FURTHER])
def test_copies(kind):
    layer, _ = pair(kind, 4, 6, act="relu")
    x = torch.randn(3, 6, 4, 4)
    layer.eval()
    fresh = pair(kind, 4, 6, act="relu")[0].eval()
    fresh.load_state_dict(layer.state_dict())
    with fusednorm.use_backend("torch"):
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
            assert torch.equal(other(x), layer(x))
    assert "act=relu" in repr(layer) or kind == "filter response"
    assert layer.act == "relu" or kind == "filter response"


STATISTICS = [
    (kind, options)
    for kind in OVER_BATCH
    if kind != "style recalibration"  # its inner BN has torch's defaults
    for options in ({}, {"momentum": None}, {"momentum": 0.3, "eps": 1e-2}, {"track_running_stats": False})
]


@pytest.mark.parametrize(("backend", "kind", "options"), list(drawn(STATISTICS)))
def test_statistics_of_further_layers(backend, kind, options):
    """Every buffer as the reference's, over three batches and an evaluation."""
    fused, plain = pair(kind, 4, 6, **options)
    with fusednorm.use_backend(backend):
        for _ in range(3):
            x = torch.randn(4, 6, 5, 3) + 1
            torch.testing.assert_close(fused(x), plain(x))
        fused.eval(), plain.eval()
        torch.testing.assert_close(fused(x), plain(x))
        if "track_running_stats" in options:
            torch.testing.assert_close(fused(x[:2]), plain(x[:2]))
            assert not [name for name, _ in fused.named_buffers() if name.endswith("running_mean")]
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], value, msg=name)
    trained = [b for name, b in fused.named_buffers() if name.endswith("num_batches_tracked")]
    assert all(b == 3 for b in trained)


@pytest.mark.parametrize("kind", FURTHER)
def test_state_of_further_layers(kind):
    """Names, shapes and first values are the reference's; loading is strict; `to` moves parameters and buffers."""
    make = FURTHER[kind]
    fused, plain = (make(ns, 4, 6) for ns in (fusednorm, fusednorm.reference))
    ours, theirs = fused.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    drawn_at_random = ("reduce.", "expand.", "conv.")  # nn.Linear's and nn.Conv1d's
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        assert torch.equal(ours[name], value) or any(word in name for word in drawn_at_random), name
    fused.load_state_dict(theirs), plain.load_state_dict(fused.state_dict())
    if theirs:
        with pytest.raises(RuntimeError, match="Missing key"):
            fused.load_state_dict({})
        with pytest.raises(RuntimeError, match="Unexpected key"):
            fused.load_state_dict(theirs | {"other": torch.ones(1)})
    assert {t.dtype for t in fused.double().state_dict().values()} <= {torch.float64, torch.int64}
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.fill_(0.5)
    for module in fused.modules():
        getattr(module, "reset_parameters", lambda: None)()
    for name, value in theirs.items():
        assert torch.equal(fused.state_dict()[name].to(value.dtype), value) or any(w in name for w in drawn_at_random)


def test_not_replaced_by_plain_sync_batch_norm():
    """convert_sync_batchnorm turns any subclass of torch's BatchNorm into plain SyncBN, and would not say so."""
    layer = fusednorm.AttentiveBatchNorm2d(6, 3)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer, fusednorm.BatchNorm2d(6)))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in converted.modules())


def test_functions_update_the_statistics_they_are_given():
    """A function of fusednorm.functional updates the statistics it is given, as torch's batch_norm does."""
    mean, var = torch.zeros(6), torch.ones(6)
    theirs_mean, theirs_var = mean.clone(), var.clone()
    x = torch.randn(4, 6, 5)
    ours = fusednorm.functional.batch_norm(x, mean, var, training=True, momentum=0.2)
    theirs = nn.functional.batch_norm(x, theirs_mean, theirs_var, training=True, momentum=0.2)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(mean, theirs_mean)
    torch.testing.assert_close(var, theirs_var)


def test_frozen_attention_norm():
    """layer.attention_norm.eval() freezes the attention's statistics, as it would any BatchNorm's."""
    layer = fusednorm.AttentiveBatchNorm2d(6, 3)
    layer.attention_norm.eval()
    before = {name: buffer.clone() for name, buffer in layer.attention_norm.named_buffers()}
    y = layer(torch.randn(4, 6, 5, 3) + 1)
    assert all(torch.equal(buffer, before[name]) for name, buffer in layer.attention_norm.named_buffers())
    assert layer.num_batches_tracked == 1
    layer.attention_norm.train()
    assert not torch.equal(y, layer(torch.randn(4, 6, 5, 3) + 1))
    assert layer.attention_norm.num_batches_tracked == 1


def test_statistics_stay_float32_under_a_16_bit_default():
    try:
        torch.set_default_dtype(torch.bfloat16)
        layer = fusednorm.AttentiveBatchNorm2d(6, 3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert layer.weight.dtype == torch.bfloat16
    assert layer.running_var.dtype == layer.attention_norm.running_var.dtype == torch.float32


def test_statistics_leave_no_graph_behind():
    layer = fusednorm.AttentiveBatchNorm2d(6, 3)
    with torch.autograd.forward_ad.dual_level():
        x = torch.randn(4, 6, 5, 3)
        layer(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))
    layer(x.requires_grad_())
    assert not any(buffer.requires_grad for buffer in layer.buffers())


def test_16_bit_buffers():
    """`half()` rounds running statistics, as it does torch's: the same to two of the type's roundings a batch."""
    ours, theirs = fusednorm.BatchNorm2d(6).half(), torch.nn.BatchNorm2d(6).half()
    for _ in range(3):
        x = torch.randn(8, 6, 9, 9).half()
        ours(x), theirs(x)
    for name in ("running_mean", "running_var"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.dtype == b.dtype == torch.float16
        torch.testing.assert_close(a, b, rtol=6 * 2**-11, atol=6 * 2**-11)
