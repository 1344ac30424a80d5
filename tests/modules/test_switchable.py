"""Switchable Normalization: scopes, ratios, the two averages, sparse inference, groups."""

import copy
import itertools

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import SwitchableNorm1d, SwitchableNorm2d, reference
from tests.cases import BACKENDS, assert_like_reference, drawn, maps_like, randomized

SCOPES = ("instance", "layer", "batch", "group")
SUBSETS = [subset for k in (1, 2, 3, 4) for subset in itertools.combinations(SCOPES, k)]
SHAPES = {2: (5, 6), 4: (4, 6, 5, 3)}


def compare(backend, shape, training, act="relu", **options):
    """float64, results, gradients, buffers."""
    name = f"SwitchableNorm{ {2: 1, 3: 1, 4: 2, 5: 3}[len(shape)] }d"
    fused, plain = randomized(*(getattr(ns, name)(shape[1], act=act, **options) for ns in (fusednorm, reference)))
    assert_like_reference(backend, fused, plain, maps_like(*shape), training)


@pytest.mark.parametrize(
    ("backend", "scopes", "dims", "unbiased"), list(drawn(itertools.product(SUBSETS, SHAPES, (False, True)), cuda=0))
)
def test_scopes(backend, scopes, dims, unbiased):
    """Every subset, of planes and of single values."""
    for training in (True, False):
        compare(backend, SHAPES[dims], training, scopes=scopes, unbiased=unbiased, num_groups=3, per_group=2)


@pytest.mark.parametrize("order", [SCOPES, SCOPES[::-1]], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_scopes_in_any_order(backend, order):
    """The control parameters are in the order of the scopes."""
    compare(backend, (4, 6, 5, 3), True, scopes=order, num_groups=2, per_group=3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_recurrent_cells(backend):
    """(layer, group) on (N, C), one sample too: nothing is tracked (appendix G)."""
    for N in (5, 1):
        compare(backend, (N, 12), True, scopes=("layer", "group"), num_groups=3)
    layer = SwitchableNorm1d(12, scopes=("layer", "group"), num_groups=3)
    assert not list(layer.buffers())
    x = torch.randn(5, 12)
    with fusednorm.use_backend(backend):
        assert torch.equal(layer(x), layer.eval()(x))


def test_default_scopes():
    assert SwitchableNorm1d(6).scopes == ("layer", "batch")
    assert SwitchableNorm2d(6).scopes == fusednorm.SwitchableNorm3d(6).scopes == ("instance", "layer", "batch")
    for name in ("SwitchableNorm1d", "SwitchableNorm2d"):
        ours, theirs = (getattr(ns, name)(6).state_dict() for ns in (fusednorm, reference))
        assert {k: (t.shape, t.dtype) for k, t in ours.items()} == {k: (t.shape, t.dtype) for k, t in theirs.items()}
        assert all(torch.equal(t, theirs[key]) for key, t in ours.items())


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_scope_is_that_normalization(backend, scope):
    x = torch.randn(4, 6, 5, 3) * 2 + 1
    other = {
        "instance": fusednorm.GroupNorm(6, 6),
        "layer": fusednorm.GroupNorm(1, 6),
        "batch": fusednorm.BatchNorm2d(6),
        "group": fusednorm.GroupNorm(3, 6),
    }[scope]
    with fusednorm.use_backend(backend):
        torch.testing.assert_close(SwitchableNorm2d(6, scopes=(scope,), num_groups=3)(x), other(x))


@pytest.mark.parametrize("per_group", [1, 3])
def test_importance(per_group):
    layer = SwitchableNorm2d(6, scopes=("batch", "group", "instance"), num_groups=2, per_group=per_group)
    with torch.no_grad():
        layer.mean_weight.copy_(torch.randn_like(layer.mean_weight))
    ratios = layer.importance()
    assert list(ratios) == ["mean", "var"]
    for name, weight in (("mean", layer.mean_weight), ("var", layer.var_weight)):
        assert tuple(ratios[name]) == layer.scopes
        shape = () if per_group == 1 else (3,)
        assert all(t.shape == shape and not t.requires_grad for t in ratios[name].values())
        for k, t in enumerate(ratios[name].values()):
            torch.testing.assert_close(t, weight.detach().softmax(-1)[..., k])
        torch.testing.assert_close(sum(ratios[name].values()), torch.ones(shape))
    torch.testing.assert_close(ratios["var"]["group"], torch.full_like(ratios["var"]["group"], 1 / 3))


@pytest.mark.parametrize("per_group", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sparsify_and_fine_tune(backend, per_group):
    """The chosen scopes alone, exactly, also after training steps with weight decay and momentum; the rest learns."""
    layer, _ = randomized(*(ns.SwitchableNorm2d(6, per_group=per_group) for ns in (fusednorm, reference)))
    chosen = {name: getattr(layer, name).argmax(-1) for name in ("mean_weight", "var_weight")}
    optimizer = torch.optim.SGD(layer.parameters(), 0.5, momentum=0.9, weight_decay=0.1)
    x = maps_like(4, 6, 5, 3).float()
    with fusednorm.use_backend(backend):
        layer(x).square().sum().backward()  # the ratios have gradients from before, and the optimizer a momentum
        optimizer.step()
        for name in chosen:
            chosen[name] = getattr(layer, name).argmax(-1)
        layer.sparsify()
        optimizer.zero_grad()
        before = copy.deepcopy(layer.state_dict())
        for _ in range(3):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
    assert layer.mean_weight.grad is None
    assert layer.var_weight.grad is None
    for name, index in chosen.items():
        ratios = torch.stack(list(layer.importance()[name.removesuffix("_weight")].values()), -1)
        assert torch.equal(ratios, nn.functional.one_hot(index, 3).float()), "exactly 0 and 1"
        assert torch.equal(getattr(layer, name), before[name])
    assert not torch.equal(layer.weight, before["weight"])
    if per_group == 1:
        single = SwitchableNorm2d(6, scopes=(layer.scopes[int(chosen["mean_weight"])],))
        if torch.equal(chosen["mean_weight"], chosen["var_weight"]):
            single.load_state_dict({k: layer.state_dict()[k] for k in ("weight", "bias")}, strict=False)
            with fusednorm.use_backend(backend):
                torch.testing.assert_close(single(x), layer(x))
    layer.reset_parameters()
    assert layer.mean_weight.requires_grad
    assert layer.var_weight.requires_grad
    assert torch.equal(layer.mean_weight, torch.ones_like(layer.mean_weight))
    assert torch.equal(layer.running_var, torch.ones(6))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_sparse_in_every_type(dtype):
    """-1e4 is held by all, and its softmax beside 0 is exactly 0."""
    layer = SwitchableNorm2d(6, dtype=dtype)
    layer.sparsify()
    assert sorted(t.item() for t in layer.importance()["mean"].values()) == [0, 0, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_ratios_of_groups(backend):
    """Group SN: each group of channels as a layer of its own, with its ratios (the layer scope would span all)."""
    layer, _ = randomized(
        *(ns.SwitchableNorm2d(6, per_group=3, scopes=("instance", "batch")) for ns in (fusednorm, reference))
    )
    x = maps_like(4, 6, 5, 3).float()
    with fusednorm.use_backend(backend):
        y = layer(x)
        for g in range(3):
            part = SwitchableNorm2d(2, scopes=("instance", "batch"))
            state = {"weight": layer.weight[2 * g : 2 * g + 2], "bias": layer.bias[2 * g : 2 * g + 2]}
            state |= {"mean_weight": layer.mean_weight[g], "var_weight": layer.var_weight[g]}
            part.load_state_dict(state, strict=False)
            torch.testing.assert_close(y[:, 2 * g : 2 * g + 2], part(x[:, 2 * g : 2 * g + 2]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_average_leaves_the_buffers(backend):
    layer = SwitchableNorm2d(6, average="batch")
    before = copy.deepcopy(dict(layer.named_buffers()))
    with fusednorm.use_backend(backend):
        layer(torch.randn(4, 6, 5, 3))
    assert all(torch.equal(t, before[name]) for name, t in layer.named_buffers())
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_moving_average(backend, unbiased, momentum):
    """torch's convention of momentum; the variance as it is used, without N/(N-1)."""
    fused, plain = (ns.SwitchableNorm2d(6, momentum=momentum, unbiased=unbiased) for ns in (fusednorm, reference))
    with fusednorm.use_backend(backend):
        for i in range(3):
            x = torch.randn(4, 6, 5, 3) + 1
            fused(x), plain(x)
            if i == 0 and momentum is not None and not unbiased:
                expected = 0.9 * torch.ones(6) + 0.1 * x.var((0, 2, 3), correction=0)
                torch.testing.assert_close(fused.running_var, expected)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(fused.state_dict()[name], value)
    assert fused.num_batches_tracked == 3


class Network(nn.Module):
    """Layers in layers, one called with a residual, plain BatchNorm and dropout between."""

    def __init__(self, average):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.first = nn.Sequential(fusednorm.SwitchableNorm2d(6, average=average, momentum=0.2), nn.Dropout(0.5))
        self.torch_norm = nn.BatchNorm2d(6)
        part = fusednorm.standardizations.Switchable(6, average=average, unbiased=True)
        self.second = fusednorm.RecalibratedNorm(part, fusednorm.recalibrations.SqueezeExcite(6, 2), "relu")
        self.other = fusednorm.BatchNorm2d(6)

    def forward(self, x, factor=1.0):
        x = self.torch_norm(self.first(self.conv(x)))
        return self.other(self.second(x, x) * factor)


BATCH_AVERAGE = ("first.0", "second.standardize")


def watched(model, names):
    """The inputs that the layers of these names get."""
    seen = {name: [] for name in names}
    modules = dict(model.named_modules())
    for name in names:
        owner = modules[name.removesuffix(".standardize")]
        owner.register_forward_hook(lambda module, args, y, name=name: seen[name].append(args[0].detach().double()))
    return seen


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("average", ["batch", "moving"])
def test_average_statistics(average, pooled):
    """Means over the batches of what each layer saw; modes, other buffers and options as before."""
    model = Network(average)
    model.train()
    model.first[1].eval()
    model.second.recalibrate.eval()
    with torch.no_grad():
        model.torch_norm.running_mean.normal_()
    names = BATCH_AVERAGE if average == "batch" else (*BATCH_AVERAGE, "other")
    seen = watched(model, names)
    modes = {name: m.training for name, m in model.named_modules()}
    before = copy.deepcopy(model.state_dict())
    batches = [torch.randn(4, 3, 8, 7) * (1 + i) + i for i in range(3)]
    fusednorm.average_statistics(model, batches, pooled=pooled)

    assert {name: m.training for name, m in model.named_modules()} == modes
    assert model.first[0].average == model.second.standardize.average == average
    assert (model.first[0].momentum, model.other.momentum) == (0.2, 0.1)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    owned = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"{name}.{key}" for name in names for key in owned}
    modules = dict(model.named_modules())
    for name in names:
        layer, inputs = modules[name], seen[name]
        assert layer.num_batches_tracked == 3
        means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
        variances = torch.stack([variance(x, name) for x in inputs])
        expected = variances.mean(0) + (means.var(0, correction=0) if pooled else 0)
        torch.testing.assert_close(layer.running_mean.double(), means.mean(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(layer.running_var.double(), expected, rtol=1e-5, atol=1e-5)


def variance(x, name):
    """As the layer tracks it: BatchNorm's unbiased, SN's as it is used, made of unbiased planes for the second."""
    if name == "other":
        return x.var((0, 2, 3))
    biased = x.var((0, 2, 3), correction=0)
    if name == "first.0":
        return biased
    planes = x.var((2, 3), correction=0).mean(0)
    return biased - planes + x.var((2, 3)).mean(0)


def test_pooled_is_the_variance_of_all_batches():
    layer = SwitchableNorm2d(6, average="batch").double()
    batches = [maps_like(4, 6, 5, 3) + 3 * i for i in range(3)]
    fusednorm.average_statistics(layer, batches, pooled=True)
    everything = torch.cat(batches)
    torch.testing.assert_close(layer.running_mean, everything.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var, everything.var((0, 2, 3), correction=0))


def test_average_far_from_zero():
    """Pooled variances of means at 1e4, without cancellation."""
    layer = SwitchableNorm2d(6, average="batch")
    batches = [torch.randn(4, 6, 5, 3) + 1e4 for _ in range(4)]
    fusednorm.average_statistics(layer, batches, pooled=True)
    exact = torch.cat(batches).double().var((0, 2, 3), correction=0)
    torch.testing.assert_close(layer.running_var.double(), exact, rtol=1e-4, atol=0)


def test_average_of_arguments():
    """Tensors, tuples, lists and dicts are batches alike."""
    model, x = Network("batch").eval(), torch.randn(4, 3, 8, 7)
    found = []
    for batch in (x, (x,), [x, 1.0], {"x": x, "factor": 1.0}):
        fusednorm.average_statistics(model, [batch])
        found.append(copy.deepcopy(model.state_dict()))
    for state in found[1:]:
        assert all(torch.equal(value, found[0][key]) for key, value in state.items())


def test_average_of_nothing():
    with pytest.raises(ValueError, match="model: expected a fused layer with running statistics"):
        fusednorm.average_statistics(nn.BatchNorm2d(6), [torch.randn(4, 6, 5, 3)])
    layer = SwitchableNorm2d(6, average="batch", momentum=0.3)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match="batches: expected at least one"):
        fusednorm.average_statistics(layer, [])
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert (layer.training, layer.momentum, layer.average) == (True, 0.3, "batch")


def test_average_interrupted():
    """A batch that fails leaves modes, options and statistics as they were."""
    layer = SwitchableNorm2d(6, average="batch", momentum=0.3)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(ValueError, match="x: expected 6 channels"):
        fusednorm.average_statistics(layer, [torch.randn(4, 6, 5, 3), torch.randn(4, 7, 5, 3)])
    assert (layer.training, layer.momentum, layer.average) == (True, 0.3, "batch")
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation(backend):
    """By running statistics the batch scope does not depend on the other samples; without it nothing changes at all."""
    x = torch.randn(4, 6, 5, 3)
    layer, _ = randomized(SwitchableNorm2d(6).eval(), reference.SwitchableNorm2d(6))
    with fusednorm.use_backend(backend):
        torch.testing.assert_close(layer(x)[:1], layer(x[:1]))
        untracked = SwitchableNorm2d(6, track_running_stats=False)
        torch.testing.assert_close(untracked(x), untracked.eval()(x))


@pytest.mark.parametrize("scopes", [("instance", "layer"), ("layer", "group")], ids=str)
def test_one_sample_without_the_batch_scope(scopes):
    layer = SwitchableNorm2d(6, scopes=scopes, num_groups=2)
    assert layer(torch.randn(1, 6, 1, 1)).isfinite().all()
    with pytest.raises(ValueError, match="x: expected more than one value per channel"):
        SwitchableNorm2d(6)(torch.randn(1, 6, 1, 1))


def test_scopes_in_a_list():
    x, weight = torch.randn(4, 6, 5, 3), torch.tensor([0.3, -0.2])
    ours, theirs = (
        fusednorm.functional.switchable_norm(x, weight, weight, scopes=kind(("layer", "instance")))
        for kind in (list, tuple)
    )
    assert torch.equal(ours, theirs)
    assert SwitchableNorm2d(6, scopes=["layer"]).scopes == ("layer",)


def test_sparsify_leaves_no_gradients():
    """An optimizer would step along those from before."""
    layer = SwitchableNorm2d(6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.randn(4, 6, 5, 3)).square().sum().backward()
    optimizer.step()
    layer.sparsify()
    before = copy.deepcopy(layer.state_dict())
    optimizer.step()
    for name in ("mean_weight", "var_weight"):
        assert torch.equal(getattr(layer, name), before[name])


def test_batch_average_before_it_is_taken():
    """Mean 0 and variance 1, as documented."""
    layer, x = SwitchableNorm2d(6, average="batch"), torch.randn(4, 6, 5, 3)
    layer(x)
    assert layer.num_batches_tracked == 0
    fresh = SwitchableNorm2d(6).eval()
    assert torch.equal(layer.eval()(x), fresh(x))
