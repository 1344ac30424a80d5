"""What folding must not change: activations, layers and hooks that others look at, randomness, types, copies."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import fusednorm

from .test_convert_errors import Block, blocks


def spread(model):
    """Weights and statistics that are not the constructor's, so that nothing is right by chance."""
    torch.manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for t in (module.weight, module.bias, module.running_mean):
                    if t is not None:
                        t.normal_()
                if module.running_var is not None:
                    module.running_var.uniform_(0.5, 2)
    return model


def same_after(model, x=None, **options):
    """The report; the model gives the same before and after, in evaluation."""
    x = torch.randn(2, 3, 9, 9) if x is None else x
    with torch.no_grad():
        expected = model.eval()(x)
        report = fusednorm.convert(model, "batch", **{"fold": True} | options).report
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fusednorm.revert(model)(x), expected, rtol=0, atol=0)
    return report


class Stemmed(nn.Module):
    def __init__(self, act, *inside):
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), act
        self.blocks = nn.Sequential(*inside)

    def forward(self, x):
        return self.blocks(self.act(self.bn(self.conv(x))))


def test_an_activation_of_stem_and_blocks():
    """One module for all: it may not become an identity."""
    act = nn.SiLU()
    for where in ("network", ("bn2", "stem"), "stem"):
        same_after(spread(Stemmed(act, Block(8, act), Block(8, act))), where=where)


class Either(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.act, self.last = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        y = self.act(self.bn(self.conv(x)))
        return y if self.training else self.act(self.last(y))


def test_a_network_that_does_otherwise_in_training():
    model, x = spread(Either()), torch.randn(2, 3, 9, 9)
    expected = model.eval()(x)
    fusednorm.convert(model.train(), "batch", fold=True)
    torch.testing.assert_close(model.eval()(x), expected)


class Other(Block):
    def forward(self, x):
        return x + self.conv2(self.act(self.norm1(self.conv1(x)))) + self.conv2(self.norm2(self.conv1(x)))


@pytest.mark.parametrize("kinds", [(Block, Other), (Block, Block)])
def test_a_layer_of_two_blocks(kinds):
    one, other = (kind(8, nn.SiLU()) for kind in kinds)
    other.norm1 = one.norm1
    other.norm2 = one.norm2
    same_after(spread(blocks(one, other)))


def test_revert_takes_activations_back():
    model = blocks(Block(8, norm=fusednorm.BatchNorm2d), Block(8, norm=fusednorm.BatchNorm2d)).eval()
    x = torch.randn(2, 3, 9, 9)
    expected = model(x)
    fusednorm.fold(model)
    fusednorm.convert(model, "representative", where="bn1", preserve=True)
    torch.testing.assert_close(model(x), expected)
    assert torch.equal(fusednorm.revert(model)(x), expected)


class Dropped(Block):
    """Stochastic depth as many write it."""

    def forward(self, x):
        if self.training and torch.rand(()) < 0.5:
            return x
        return super().forward(x)


def test_stochastic_depth_in_python():
    for seed in range(6):
        torch.manual_seed(seed)
        model, state = blocks(Dropped(8)), torch.random.get_rng_state()
        _, report = fusednorm.convert(copy.deepcopy(model), "batch", fold=True)
        assert "random numbers" in report.notes[0] or "another in training" in report.notes[0]
        assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
@pytest.mark.parametrize("at", ["1", "1.conv1", "1.norm2"])
def test_hooks_are_called_still(register, at):
    model, called = blocks(Block(8)), []
    getattr(model.get_submodule(at), register)(lambda *_: called.append(at))
    _, report = fusednorm.convert(model, "batch", fold=True)
    assert not called
    model(torch.randn(2, 3, 9, 9)).sum().backward()
    if at == "1.norm2":
        assert report.notes[0] == "1.norm2: its hooks stay behind"
    else:
        assert called == [at]
        assert report.notes[0] == "1: nothing folded: ValueError: it has hooks"


@pytest.mark.parametrize("kind", ["pruned", "parametrized"])
def test_weights_that_are_calculated(kind):
    model = spread(blocks(Block(8), Block(8)))
    if kind == "pruned":
        prune.l1_unstructured(model[1].norm1, "weight", 0.5)
    else:
        parametrize.register_parametrization(model[1].norm1, "weight", nn.Softplus())
    report = same_after(model)
    assert [row.name for row in report.left] == ["1.norm1"]
    with pytest.raises(ValueError, match=r"'1\.norm1'.*weight or bias is calculated"):
        fusednorm.freeze(model)
    with pytest.warns(UserWarning, match="left as they are"):
        fusednorm.convert_sync(model)


@pytest.mark.parametrize("how", ["switched off", "taken away"])
def test_statistics_that_were_switched_off(how):
    model = spread(blocks(Block(8)))
    if how == "switched off":
        model[1].norm1.track_running_stats = False
    else:
        model[1].norm1.running_mean = model[1].norm1.running_var = None
    report = same_after(model)
    assert [row.name for row in report.left] == (["1.norm1"] if how == "switched off" else [])


def test_autocast():
    """The block's input is float32, its convolutions' outputs are not."""
    model, x = spread(nn.Sequential(Block(8), Block(8))), torch.randn(2, 8, 9, 9)
    fusednorm.convert(model, "batch")
    folded = copy.deepcopy(model)
    assert fusednorm.fold(folded).report.replaced
    with torch.no_grad():
        truth = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ours, plain = ((m(x).float() - truth).abs().max() for m in (folded, model))
    assert 0 < ours <= 2 * plain


class Storing(Block):
    def forward(self, x):
        self.seen = super().forward(x)
        return self.seen


class Counting(Block):
    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("mask", torch.full((channels, 1, 1), 0.5))
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.stride = 1

    def forward(self, x):
        self.calls.add_(1)
        return self.act(self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))) * self.scale * self.mask + x)


def test_what_a_forward_stores():
    model = blocks(Storing(8))
    before = set(vars(model[1]))
    _, report = fusednorm.convert(model, "batch", fold=True)
    assert report.notes == ("1: nothing folded: ValueError: its forward stores something in the module",)
    assert set(vars(model[1])) == before


def test_what_a_block_has():
    """Buffers, parameters and attributes of its own; they are copied, moved, and there after revert."""
    model, x = spread(blocks(Counting(8))).eval(), torch.randn(2, 3, 9, 9)
    fusednorm.convert(model, "batch", fold=True)
    assert int(model[1].calls) == 0
    expected = model(x)
    assert int(model[1].calls) == 1
    assert isinstance(model[1], torch.fx.GraphModule)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(x), expected)
        assert copied[1].stride == 1
        assert list(copied.state_dict()) == list(model.state_dict())
        assert int(copied[1].calls) == 2
    model.double()
    model[1].mask.fill_(0.25)
    fusednorm.revert(model)
    assert model[1].mask.dtype == torch.float64
    assert float(model[1].mask[0]) == 0.25
    model(x.double())


def test_frozen_networks_are_not_converted():
    model = spread(blocks(Block(8)))
    fusednorm.convert(model, "batch", fold=True)
    fusednorm.freeze(model)
    for change in (lambda: fusednorm.convert(model, "batch"), lambda: fusednorm.revert(model)):
        with pytest.raises(ValueError, match="expected one that is not frozen, unfreeze it first"):
            change()
    fusednorm.unfreeze(model)
    assert type(fusednorm.revert(model)[1].norm1) is nn.BatchNorm2d


def test_wrapped_networks_are_not_converted(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(blocks(Block(8)))
        with pytest.raises(ValueError, match="expected a network, got DistributedDataParallel"):
            fusednorm.convert(wrapped, "batch")
    finally:
        torch.distributed.destroy_process_group()


class Pooled(Block):
    """The summands broadcast."""

    def forward(self, x):
        return self.norm2(self.conv2(x.mean((2, 3), keepdim=True))) + self.norm1(self.conv1(x))


def test_shapes_without_values():
    with torch.device("meta"):
        model = blocks(Pooled(8))
        _, report = fusednorm.convert(model, "batch", fold=True)
    assert "1: nothing folded" in report.notes[0]
    same_after(spread(blocks(Pooled(8))))
