"""convert_sync, in one process."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm.modules.synchronized import Synchronizable
from fusednorm.surgery import zoo


class Special(nn.BatchNorm2d):
    """Who knows what it calculates."""


def network():
    shared = nn.BatchNorm2d(4)
    return nn.Sequential(
        nn.BatchNorm1d(4, eps=1e-3, momentum=None),
        nn.Sequential(shared, shared),
        nn.BatchNorm3d(4, affine=False, track_running_stats=False),
        nn.SyncBatchNorm(4, momentum=0.3),
        fusednorm.AttentiveBatchNorm2d(4, 3),
        fusednorm.AttentiveGroupNorm(2, 4, attention_norm=True),
        fusednorm.StyleRecalibration(4),
        fusednorm.RecalibratedNorm(
            fusednorm.standardizations.Switchable(4), fusednorm.recalibrations.StyleRecalibration(4)
        ),
        nn.GroupNorm(2, 4),
    )


def synchronized(model):
    return {name: m.sync for name, m in model.named_modules() if hasattr(m, "sync")}


def test_kinds_and_state():
    model = network()
    with torch.no_grad():
        for i, t in enumerate(model.state_dict().values()):
            t.fill_(i + 1)
    before, parameters = copy.deepcopy(model.state_dict()), list(model.parameters())
    kinds = [type(m) for m in model]
    assert fusednorm.convert_sync(model) is model
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [id(p) for p in model.parameters()] == [id(p) for p in parameters]
    assert [type(m) for m in model[4:]] == kinds[4:]
    assert isinstance(model[0], fusednorm.BatchNorm1d)
    assert isinstance(model[1][0], fusednorm.BatchNorm2d)
    assert model[1][0] is model[1][1]
    assert isinstance(model[2], fusednorm.BatchNorm3d)
    assert (model[0].eps, model[0].momentum, model[3].momentum) == (1e-3, None, 0.3)
    assert model[2].weight is None
    assert model[2].running_mean is None
    found = synchronized(model)
    assert all(found.values())
    assert {
        "4",
        "4.attention_norm",
        "5.attention_norm",
        "6.norm",
        "7.standardize",
        "7.recalibrate.norm",
    } <= found.keys()


def test_idempotent():
    model = fusednorm.convert_sync(network())
    inner = list(model.modules())
    fusednorm.convert_sync(model)
    assert [id(m) for m in model.modules()] == [id(m) for m in inner]


def test_modes_are_carried_over():
    model = network().eval()
    model[1][0].train()
    fusednorm.convert_sync(model)
    assert [m.training for m in (model[0], model[1][0], model[3])] == [False, True, False]


def test_torch_layers_left_alone():
    model = network()
    kinds = [type(m) for m in model.modules()]
    fusednorm.convert_sync(model, torch_layers=False)
    assert [type(m) for m in model.modules()] == kinds
    assert all(synchronized(model).values())


def test_a_layer_itself():
    layer = nn.BatchNorm2d(4)
    new = fusednorm.convert_sync(layer)
    assert isinstance(new, fusednorm.BatchNorm2d)
    assert new.weight is layer.weight


def test_subclasses_stay():
    model = nn.Sequential(Special(4))
    with pytest.warns(UserWarning, match="convert_sync: left as they are.*Special"):
        fusednorm.convert_sync(model)
    assert type(model[0]) is Special


def test_timms_go_through_convert():
    """As the warning says."""
    model = zoo.build("timm/efficientnet_b0")
    with pytest.warns(UserWarning, match=r"BatchNormAct2d; fusednorm\.convert\(model, 'batch'\) before it takes"):
        fusednorm.convert_sync(copy.deepcopy(model))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fusednorm.convert_sync(fusednorm.convert(model, "batch").model)
    norms = [m for m in model.modules() if hasattr(m, "running_mean")]
    assert norms
    assert all(isinstance(m, fusednorm.BatchNorm2d) and m.sync for m in norms)


def test_statistics_that_no_longer_follow_stay():
    """track_running_stats switched off: torch uses the statistics that there are, and leaves them alone."""
    layer = nn.BatchNorm2d(4)
    layer.track_running_stats = False
    model = nn.Sequential(layer)
    with pytest.warns(UserWarning, match="convert_sync: left as they are.*BatchNorm2d"):
        fusednorm.convert_sync(model)
    assert model[0] is layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_same_results_in_one_process(training, bias):
    """Where torch.distributed is not initialized statistics are those here."""
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(4, bias=bias).train(training)
    new = fusednorm.convert_sync(nn.Sequential(copy.deepcopy(layer)))
    x = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(new(x), layer(x))
    torch.testing.assert_close(new[0].running_var, layer.running_var)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (3, 4, 5, 5), (3, 4, 5, 2, 2)])
def test_sync_batch_norm_takes_any_dimensions(shape):
    x = torch.randn(shape)
    expected = nn.functional.batch_norm(x, None, None, training=True)
    torch.testing.assert_close(fusednorm.convert_sync(nn.SyncBatchNorm(4))(x), expected)


@pytest.mark.parametrize(
    "layer",
    [
        fusednorm.BatchNorm2d(4, sync=True),
        fusednorm.AttentiveBatchNorm2d(4, sync=True),
        fusednorm.AttentiveGroupNorm(2, 4, attention_norm=True, sync=True),
        fusednorm.RepresentativeBatchNorm2d(4, sync=True),
        fusednorm.SwitchableNorm2d(4, sync=True),
        fusednorm.InstanceEnhancementBatchNorm2d(4, sync=True),
        fusednorm.StyleRecalibration(4, sync=True),
        fusednorm.standardizations.Batch(4, sync=True),
        fusednorm.standardizations.Representative(4, sync=True),
        fusednorm.standardizations.Switchable(4, sync=True),
        fusednorm.recalibrations.Attentive(4, sync=True),
        fusednorm.recalibrations.StyleRecalibration(4, sync=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_keyword(layer):
    plain = type(layer)(*([2, 4] if isinstance(layer, fusednorm.AttentiveGroupNorm) else [4]))
    found = synchronized(layer)
    assert found
    assert all(found.values())
    assert not any(synchronized(plain).values())
    assert all(synchronized(pickle.loads(pickle.dumps(layer))).values())
    assert "sync=True" in repr(layer)
    if not isinstance(layer, fusednorm.AttentiveGroupNorm):
        assert layer.state_dict().keys() == plain.state_dict().keys()


def test_no_process_group():
    for wrong in (3, "world"):
        with pytest.raises(TypeError, match=r"process_group: expected a torch.distributed process group or None, got"):
            fusednorm.BatchNorm2d(4, process_group=wrong)
        with pytest.raises(TypeError, match="process_group"):
            fusednorm.convert_sync(nn.BatchNorm2d(4), wrong)


def test_one_value_a_channel_is_too_few_in_one_process():
    with pytest.raises(ValueError, match="more than one value per channel"):
        fusednorm.BatchNorm1d(4, sync=True)(torch.randn(1, 4))


@pytest.mark.parametrize("old", [nn.SyncBatchNorm(4), fusednorm.BatchNorm2d(4, sync=True)])
@pytest.mark.parametrize("recipe", ["attentive", "representative", "switchable", "squeeze_excite", "batch"])
def test_what_takes_the_place_of_a_synchronized_layer_is_synchronized(old, recipe):
    new, _ = fusednorm.convert(copy.deepcopy(old), recipe, where="network")
    own = [m for m in new.modules() if isinstance(m, Synchronizable)]
    assert own
    assert all(m.sync for m in own)
