"""Checkpoints of plain BatchNorm into layers that add something to it, and what the report says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusednorm
from fusednorm import official, reference

C = 4


@pytest.fixture(params=[fusednorm, reference], ids=["fused", "reference"])
def ours(request: pytest.FixtureRequest) -> Any:
    return request.param


def batch_norm() -> dict[str, Tensor]:
    """A state of BatchNorm, none of it initial."""
    state = {name: torch.rand(C) + 1 for name in ("weight", "bias", "running_mean", "running_var")}
    return state | {"num_batches_tracked": torch.tensor(7)}


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


BN_INTO = [
    ("RepresentativeBatchNorm2d", {}, ["center_weight", "scale_weight", "scale_bias"]),
    ("RepresentativeBatchNorm1d", {"scale": None}, ["center_weight"]),
    ("SwitchableNorm2d", {}, ["mean_weight", "var_weight"]),
    ("SwitchableNorm3d", {"scopes": ("batch", "group"), "num_groups": 2}, ["mean_weight", "var_weight"]),
    ("InstanceEnhancementBatchNorm2d", {}, ["enhance_weight", "enhance_bias"]),
]


@pytest.mark.parametrize("counter", [True, False], ids=["counter", "no counter"])
@pytest.mark.parametrize(("name", "options", "added"), BN_INTO, ids=lambda value: value if type(value) is str else "")
def test_batch_norm(ours: Any, name: str, options: dict[str, Any], added: list[str], counter: bool) -> None:
    layer = getattr(ours, name)(C, **options)
    with torch.no_grad():
        for p in layer.parameters():
            p.uniform_()
    own = {key: value.clone() for key, value in layer.state_dict().items()}
    checkpoint = batch_norm()
    if not counter:
        del checkpoint["num_batches_tracked"]
    converted = official.convert_state_dict(layer, checkpoint)
    assert sorted(converted.initialized) == sorted(added + ([] if counter else ["num_batches_tracked"]))
    assert converted.source == {key: key for key in checkpoint}
    layer.load_state_dict(converted, strict=True)
    assert_equal(dict(layer.state_dict()), own | checkpoint)


def test_a_batch_norm_model(ours: Any) -> None:
    """Some layers of it become ours; the report names them by their place."""
    plain = nn.Sequential(nn.Conv2d(3, C, 1), nn.BatchNorm2d(C), nn.Sequential(nn.BatchNorm2d(C)))
    model = nn.Sequential(
        nn.Conv2d(3, C, 1), ours.RepresentativeBatchNorm2d(C), nn.Sequential(ours.SwitchableNorm2d(C))
    )
    plain(torch.randn(3, 3, 5, 5))
    converted = official.convert_state_dict(model, plain.state_dict())
    model.load_state_dict(converted, strict=True)
    added = ["1.center_weight", "1.scale_weight", "1.scale_bias", "2.0.mean_weight", "2.0.var_weight"]
    assert sorted(converted.initialized) == sorted(added)
    assert {name: model.state_dict()[name] for name in converted.source}.keys() == plain.state_dict().keys()


def test_batch_norm_in_rbn_is_scaled_by_the_initial_gate(ours: Any) -> None:
    """sigmoid(1), of gamma x_hat alone: what the docstring says."""
    batch, layer = nn.BatchNorm2d(C), ours.RepresentativeBatchNorm2d(C)
    batch.load_state_dict(batch_norm())
    layer.load_state_dict(official.convert_state_dict(layer, batch.state_dict()))
    x, bias = torch.randn(2, C, 3, 3), batch.bias[:, None, None]
    gate = torch.sigmoid(torch.ones(()))
    torch.testing.assert_close(layer.eval()(x), gate * (batch.eval()(x) - bias) + bias)


def test_batch_norm_where_it_has_no_meaning(ours: Any) -> None:
    with pytest.raises(ValueError, match=r"(?s)missing: weight_ .here weight.*left over: weight, bias"):
        official.convert_state_dict(ours.AttentiveBatchNorm2d(C), batch_norm())
    with pytest.raises(ValueError, match="left over: running_mean, running_var"):
        official.convert_state_dict(ours.SwitchableNorm2d(C, scopes=("instance", "layer")), batch_norm())
    with pytest.raises(ValueError, match="missing: center_weight"):  # an affine map alone
        official.convert_state_dict(
            ours.RepresentativeBatchNorm2d(C), {"weight": torch.ones(C), "bias": torch.zeros(C)}
        )
