"""Wrong arguments of the conversions, wrapped checkpoints, what has no official names; and copies of the result."""

import copy
import pickle

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import official, reference


def rbn():
    return fusednorm.RepresentativeBatchNorm2d(4)


def test_arguments_the_wrong_way_round():
    layer = rbn()
    state = official.to_official(layer)
    with pytest.raises(TypeError, match=r"^layer_or_model: expected an nn.Module, got OrderedDict$"):
        official.convert_state_dict(state, layer)
    with pytest.raises(TypeError, match=r"^layer_or_model: expected an nn.Module, got NoneType$"):
        official.to_official(None)
    for value, name in ((None, "NoneType"), ([1], "list"), (layer, "RepresentativeBatchNorm2d")):
        with pytest.raises(TypeError, match=rf"^state_dict: expected a mapping from names to tensors, got {name}$"):
            official.convert_state_dict(layer, value)
    with pytest.raises(TypeError, match=r"^state_dict: expected a mapping from names to tensors, got list$"):
        official.to_official(layer, [1])


def test_wrapped_checkpoints_are_recognized():
    model = nn.Sequential(rbn())
    state = official.to_official(model)
    with pytest.raises(ValueError, match=r"missing: 0\.center_weight.*\n.*\n.*take 'module\.' off them$"):
        official.convert_state_dict(model, {f"module.{name}": value for name, value in state.items()})
    with pytest.raises(ValueError, match=r"may be inside: state_dict\['state_dict'\]$"):
        official.convert_state_dict(model, {"epoch": 3, "state_dict": state})
    with pytest.raises(ValueError, match=r"left over: other$"):
        official.convert_state_dict(model, state | {"other": torch.ones(1)})


@pytest.mark.parametrize("ours", [fusednorm, reference], ids=["fused", "reference"])
def test_embeddings_have_no_known_names(ours):
    model = nn.Sequential(ours.NormalizationAttention(similarity="mean_difference", embedding=True, unbiased=True))
    words = r"^0\.query\..*: expected a NormalizationAttention without embedding.* resnet_na5"
    with pytest.raises(ValueError, match=words):
        official.to_official(model)
    with pytest.raises(ValueError, match=words):
        official.convert_state_dict(model, {"0.weight2": torch.ones(1), "0.bias2": torch.ones(1)})
    joined = ours.RecalibratedNorm(
        ours.standardizations.Batch(4),
        ours.recalibrations.NormalizationAttention(4, similarity="mean_difference", embedding=True),
    )
    with pytest.raises(ValueError, match=words.replace(r"0\.query", r"recalibrate\.query")):
        official.to_official(joined)


def test_converted_is_a_dict():
    """Copies and unions are Converted too, and know what the left side did."""
    layer = rbn()
    found = official.convert_state_dict(layer, nn.BatchNorm2d(4).state_dict())
    more = {"other": torch.ones(1)}
    for result in (found | more, found.copy(), copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert isinstance(result, official.Converted)
        assert (result.initialized, result.source) == (found.initialized, found.source)
    assert list(found | more) == [*found, "other"]
    assert list(more | found) == ["other", *found]
    assert (found | more).initialized is not found.initialized
