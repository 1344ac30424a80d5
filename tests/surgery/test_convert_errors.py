"""What convert refuses, and how it says so; what it leaves and reports."""

import functools

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm.surgery import Recipe, zoo


class Block(nn.Module):
    def __init__(self, channels, act=None, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 1), norm(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1), norm(channels)
        self.act = act or nn.ReLU()

    def forward(self, x):
        return self.act(self.norm2(self.conv2(self.act(self.norm1(self.conv1(x))))) + x)


def blocks(*made):
    return nn.Sequential(nn.Conv2d(3, 8, 3), *made)


def test_model_is_a_module():
    with pytest.raises(TypeError, match=r"model: expected an nn\.Module, got list"):
        fusednorm.convert([nn.BatchNorm2d(4)], "batch")


@pytest.mark.parametrize(
    ("recipe", "options", "error", "text"),
    [
        ("attentiv", {}, ValueError, "recipe: expected one of 'attentive', .*, got 'attentiv'"),
        (3, {}, TypeError, "recipe: expected a name, a Recipe or a function, got int"),
        (Recipe("bn", where=("bn2",)), {}, ValueError, r"recipe\.layer: expected one of .*, got 'bn'"),
        ("attentive", {"where": "bn4"}, ValueError, "where: expected of 'bn1', .*, got 'bn4'"),
        ("attentive", {"where": ()}, ValueError, "where: expected of .*, got none"),
        ("attentive", {"stages": [2]}, ValueError, "stages: expected of 1 to 1, which the network has, got 2"),
        ("attentive", {"num_components": (1, 2)}, ValueError, "num_components: expected a number, or 1, one for each"),
        ("attentive", {"num_components": 0}, ValueError, "num_components"),
        ("attentive", {"reduction": 4}, TypeError, "reduction"),
        ("switchable", {"preserve": True}, ValueError, "at '1.norm1': switchable statistics are never those of one"),
        (
            "attentive",
            {"where": "shortcut"},
            ValueError,
            "there are 2 normalizations, 2 of them in 1 blocks of 1 stages",
        ),
        (lambda name, module: None, {}, ValueError, "recipe: expected a layer for some module, the function gave none"),
        (lambda name, module: 3, {}, TypeError, "recipe: expected an nn.Module or None for '', got int"),
        (lambda name, module: None, {"stages": [1]}, ValueError, "stages: expected with a recipe alone"),
    ],
)
def test_refuses(recipe, options, error, text):
    model = blocks(Block(8))
    before = dict(model.named_modules())
    with pytest.raises(error, match=text):
        fusednorm.convert(model, recipe, **options)
    assert dict(model.named_modules()) == before


def test_leaves_what_needs_the_batch():
    with torch.device("meta"):
        model = blocks(Block(8), Block(8, norm=functools.partial(nn.GroupNorm, 2)))
    _, report = fusednorm.convert(model, "representative")
    assert [row.name for row in report.replaced] == ["1.norm1", "1.norm2"]
    assert [row.name for row in report.left] == ["2.norm1", "2.norm2"]
    assert "2 layers could not be placed" in str(report)
    assert "a GroupNorm none to hand on" in str(report)


def test_layers_without_weights():
    plain = functools.partial(nn.BatchNorm2d, affine=False)
    for recipe in ("batch", "representative", "switchable", "squeeze_excite"):
        model, _ = fusednorm.convert(blocks(Block(8, norm=plain)), recipe)
        layer = getattr(model[1].norm2, "recalibrate", model[1].norm2)
        assert layer.weight is None, recipe
    model, x = blocks(Block(8, norm=plain)).eval(), torch.randn(2, 3, 9, 9)
    expected = model(x)
    torch.testing.assert_close(fusednorm.convert(model, "attentive", preserve=True).model(x), expected)
    with pytest.raises(ValueError, match="without weight and bias it can't start as what was there"):
        fusednorm.convert(blocks(Block(8, norm=plain)), "representative", preserve=True)
    _, report = fusednorm.convert(blocks(Block(8), nn.BatchNorm2d(8, bias=False)), "batch")
    assert [row.note for row in report.left] == ["BatchNorm2d without a bias"]


def test_leaves_layers_that_share_weights():
    model = blocks(Block(8), Block(8))
    model[2].norm1.weight = model[1].norm1.weight
    _, report = fusednorm.convert(model, "batch")
    assert [row.name for row in report.replaced] == ["1.norm2", "2.norm2"]
    assert [row.name for row in report.left] == ["1.norm1", "2.norm1"]
    assert {row.note for row in report.left} == {"BatchNorm2d that shares its weight or bias with another module"}
    assert model[2].norm1.weight is model[1].norm1.weight


class OtherBatchNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * 2


def test_leaves_layers_that_do_more():
    _, report = fusednorm.convert(blocks(Block(8), Block(8, norm=OtherBatchNorm)), "batch")
    assert {row.note for row in report.left} == {"OtherBatchNorm with a forward of its own"}


def test_takes_subclasses_that_do_not():
    class Named(nn.BatchNorm2d):
        pass

    assert len(fusednorm.convert(blocks(Block(8, norm=Named)), "batch").report.replaced) == 2


def test_leaves_layers_without_channels():
    _, report = fusednorm.convert(blocks(Block(8), nn.LazyBatchNorm2d()), "batch")
    assert report.notes == ("not looked at: 1 of LazyBatchNorm2d",)


def test_leaves_activations_that_it_does_not_have():
    from fusednorm.surgery.zoo import import_torchvision

    import_torchvision()
    from timm.layers import BatchNormAct2d

    norm = functools.partial(BatchNormAct2d, act_layer=nn.ELU)
    _, report = fusednorm.convert(blocks(Block(8), Block(8, norm=norm)), "batch")
    assert {row.note for row in report.left} == {"BatchNormAct2d with ELU"}


def test_says_what_it_did_not_look_at():
    model = blocks(Block(8), nn.InstanceNorm2d(8), nn.InstanceNorm2d(8))
    assert fusednorm.convert(model, "batch").report.notes == ("not looked at: 2 of InstanceNorm2d",)


class Tangled(Block):
    def forward(self, x):
        return super().forward(x) if x.shape[0] > 1 and bool((x > 0).any()) else x


def test_blocks_that_cannot_be_traced_are_taken_as_they_stand():
    model, x = blocks(Tangled(8)), torch.randn(2, 3, 9, 9)
    expected = model(x)
    _, report = fusednorm.convert(model, "batch", fold=True)
    assert [row.name for row in report.replaced] == ["1.norm1", "1.norm2"]
    assert "1: its forward can't be traced" in report.notes[0]
    assert "1: nothing folded" in report.notes[1]
    fresh = {name: 0 * b + (name.endswith("var")) for name, b in model.named_buffers()}
    model.load_state_dict(fresh, strict=False)
    torch.testing.assert_close(model(x), expected)


class Dropping(Block):
    def forward(self, x):
        z = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(nn.functional.dropout(z, 0.5, self.training) + x)


def test_a_forward_that_depends_on_the_mode_is_not_folded():
    _, report = fusednorm.convert(blocks(Dropping(8)), "batch", fold=True)
    assert report.notes == ("1: nothing folded: ValueError: its forward is another in training than in evaluation",)
    assert not any(row.note for row in report.replaced)


class Shared(Block):
    """Its second layer is called twice."""

    def forward(self, x):
        return self.act(self.norm2(self.conv2(self.act(self.norm2(self.conv1(x))))) + x)


def test_a_layer_called_twice_is_replaced_but_not_folded():
    model, x = blocks(Shared(8)).eval(), torch.randn(2, 3, 9, 9)
    expected = model(x)
    _, report = fusednorm.convert(model, "batch", fold=True)
    torch.testing.assert_close(model(x), expected)
    assert [row.note for row in report.replaced if row.name == "1.norm2"] == [""]


def test_a_module_held_twice_is_replaced_in_both_places():
    norm = nn.BatchNorm2d(8)
    model = blocks(Block(8, norm=lambda channels: norm))
    fusednorm.convert(model, "representative")
    assert type(model[1].norm1) is fusednorm.RepresentativeBatchNorm2d
    assert model[1].norm1 is model[1].norm2
    fusednorm.revert(model)
    assert model[1].norm1 is norm
    assert model[1].norm2 is norm


class Keeping(Block):
    """What the last layer gives is used twice."""

    def forward(self, x):
        z = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(z + x) + z


class Narrow(Block):
    """The other summand has one channel."""

    def forward(self, x):
        z = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(z + x.mean(1, keepdim=True))


class Twice(Block):
    """The other summand is the layer's own output."""

    def forward(self, x):
        z = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(z + z)


class Weighted(Block):
    def forward(self, x):
        z = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(torch.add(z, x, alpha=2))


class InPlace(Block):
    """What the layer reads is used, and written to, before the addition."""

    def forward(self, x):
        a = self.conv2(self.act(self.norm1(self.conv1(x))))
        z = self.norm2(a)
        return self.act(z + a.mul_(2))


@pytest.mark.parametrize("kind", [Keeping, Narrow, Twice, Weighted, InPlace])
@pytest.mark.parametrize("training", [True, False])
def test_what_can_not_be_folded_stays_right(kind, training):
    torch.manual_seed(0)
    model, x = blocks(kind(8)).train(training), torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = model(x)
        fusednorm.convert(model, "batch", fold=True)
        torch.testing.assert_close(model(x), expected)


def test_function_chooses_among_all_modules():
    """Mask R-CNN's box head, say: attention over groups in place of one GroupNorm and the ReLU after it."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.GroupNorm(2, 8), nn.ReLU()), nn.GroupNorm(2, 8))
    seen = []

    def head(name, module):
        seen.append(name)
        if name == "1":
            return fusednorm.AttentiveGroupNorm(2, 8, act="relu")
        return None

    _, report = fusednorm.convert(model, head)
    assert seen == ["", "0", "1", "2"]
    assert report.recipe == "head"
    assert [(row.name, row.was, row.now) for row in report.replaced] == [
        ("1", "Sequential", "AttentiveGroupNorm(8, K=10)")
    ]
    assert type(fusednorm.revert(model)[1]) is nn.Sequential


def test_stage_by_stage():
    """RBN Table 4."""
    for stage, count in ((1, 10), (2, 13), (3, 19), (4, 10)):
        with torch.device("meta"):
            _, report = fusednorm.convert(zoo.build("resnet50"), "representative", stages=[stage])
        assert {row.stage for row in report.replaced} == {stage}
        assert len(report.replaced) == count


def test_places_by_name():
    with torch.device("meta"):
        counts = {
            where: len(fusednorm.convert(zoo.build("resnet50"), "batch", where=where).report.replaced)
            for where in ("bn1", "bn2", "bn3", "all", "shortcut", "stem", "network")
        }
        both = fusednorm.convert(zoo.build("resnet50"), "batch", where=("all", "shortcut")).report
        transitions = fusednorm.convert(zoo.build("densenet121"), "batch", where="rest").report
    assert counts == {"bn1": 16, "bn2": 16, "bn3": 16, "all": 48, "shortcut": 4, "stem": 1, "network": 53}
    assert len(both.replaced) == 52
    assert [row.name.rpartition(".")[0] for row in transitions.replaced] == [
        "features.transition1",
        "features.transition2",
        "features.transition3",
        "features",
    ]


def test_values_for_each_stage():
    with torch.device("meta"):
        model, _ = fusednorm.convert(zoo.build("mobilenet_v2"), "attentive", num_components=(5, 5, 5, 5, 10, 10, 10))
    K = [m.num_components for m in model.modules() if isinstance(m, fusednorm.AttentiveBatchNorm2d)]
    assert K == [5] * 10 + [10] * 7


def test_fold_alone():
    """A network that was built with our layers."""
    model, x = blocks(Block(8, norm=fusednorm.AttentiveBatchNorm2d)).eval(), torch.randn(2, 3, 9, 9)
    expected = model(x)
    _, report = fusednorm.fold(model)
    assert [row.note for row in report.replaced] == ["+ residual + relu", "+ relu"]
    torch.testing.assert_close(model(x), expected)
    assert type(fusednorm.revert(model)[1]) is Block
    with pytest.raises(ValueError, match="expected a layer of fusednorm without an activation, there is none"):
        fusednorm.fold(nn.Sequential(nn.BatchNorm2d(3)))
