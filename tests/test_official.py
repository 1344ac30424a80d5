"""Official checkpoints into our layers, and back. What official code really saved: tests/golden_cases.py."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusednorm
from fusednorm import official, reference

Shapes = Mapping[str, tuple[int, ...]]
C = 4
AN_A1 = {
    "weight_": (3, C),
    "bias_": (3, C),
    "attention_weights.attention.0.weight": (3, C, 1, 1),
    "attention_weights.attention.0.bias": (3,),
}
AN_A2 = {name: shape for name, shape in AN_A1.items() if not name.endswith("0.bias")} | {
    f"attention_weights.attention.1.{name}": (() if name == "num_batches_tracked" else (3,))
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}
AFFINE = {"weight": (C,), "bias": (C,)}
COUNTED = {"running_mean": (C,), "running_var": (C,), "num_batches_tracked": ()}
RBN = ("weight", "bias", "center_weight", "scale_weight", "scale_bias")


def rbn(*positions: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(RBN, (1, C, *positions)) | COUNTED


def sn(*positions: int, running: tuple[int, ...] | None = (1, C, 1), scopes: int = 3) -> dict[str, tuple[int, ...]]:
    affine = dict.fromkeys(("weight", "bias"), (1, C, *positions)) | dict.fromkeys(
        ("mean_weight", "var_weight"), (scopes,)
    )
    return affine | (dict.fromkeys(("running_mean", "running_var"), running) if running else {})


SE = {"fc.0.weight": (2, C), "fc.0.bias": (2,), "fc.2.weight": (C, 2), "fc.2.bias": (C,)}
SE_WITHOUT_BIAS = {"fc.0.weight": (2, C), "fc.2.weight": (C, 2)}
NA = {"weight2": (1,), "bias2": (1,)}

# Constructor, arguments, options -> the official names and shapes.
LAYERS: list[tuple[str, tuple[int, ...], dict[str, Any], Shapes]] = [
    ("AttentiveBatchNorm1d", (C, 3), {}, AN_A2 | COUNTED),
    ("AttentiveBatchNorm2d", (C, 3), {}, AN_A2 | COUNTED),
    ("AttentiveBatchNorm3d", (C, 3), {"attention_norm": False}, AN_A1 | COUNTED),
    ("AttentiveGroupNorm", (2, C, 3), {}, AN_A1),
    ("RepresentativeBatchNorm1d", (C,), {}, rbn(1)),
    ("RepresentativeBatchNorm2d", (C,), {}, rbn(1, 1)),
    ("RepresentativeBatchNorm3d", (C,), {}, rbn(1, 1, 1)),
    ("SwitchableNorm1d", (C,), {}, sn(running=(1, C), scopes=2)),
    ("SwitchableNorm2d", (C,), {}, sn(1, 1)),
    ("SwitchableNorm2d", (C,), {"scopes": ("instance", "layer")}, sn(1, 1, running=None, scopes=2)),
    ("SwitchableNorm3d", (C,), {}, sn(1, 1, 1)),
    ("NormalizationAttention", (), {}, NA),
    ("SqueezeExcite", (C, 2), {}, SE),
    ("SqueezeExcite", (C, 2), {"bias": False}, SE_WITHOUT_BIAS),
]


@pytest.fixture(params=[fusednorm, reference], ids=["fused", "reference"])
def ours(request: pytest.FixtureRequest) -> Any:
    return request.param


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """A different number everywhere, positive."""
    numbers = itertools.count(1)
    state = {}
    for name, shape in shapes.items():
        values = [next(numbers) for _ in range(torch.Size(shape).numel())]
        dtype = torch.long if name.endswith("num_batches_tracked") else torch.float32
        state[name] = torch.tensor(values, dtype=dtype).view(shape)
    return state


def under(prefix: str, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        assert torch.equal(actual[name], value), name


# -------------------------------------------------------------------------------------------- a layer alone


@pytest.mark.parametrize(
    ("name", "arguments", "options", "shapes"), LAYERS, ids=lambda value: value if type(value) is str else ""
)
def test_there_and_back(
    ours: Any, name: str, arguments: tuple[int, ...], options: dict[str, Any], shapes: Shapes
) -> None:
    layer = getattr(ours, name)(*arguments, **options)
    checkpoint = filled(shapes)
    converted = official.convert_state_dict(layer, checkpoint)
    layer.load_state_dict(converted, strict=True)
    counter = ["num_batches_tracked"] if "running_mean" in shapes and name.startswith("Switchable") else []
    assert converted.initialized == counter
    assert sorted(converted.source.values()) == sorted(shapes)
    assert sorted([*converted.source, *counter]) == sorted(layer.state_dict())
    for mine, theirs in converted.source.items():
        assert torch.equal(layer.state_dict()[mine].flatten(), checkpoint[theirs].flatten())
    assert_equal(official.to_official(layer), checkpoint)
    assert_equal(official.to_official(layer, dict(converted)), checkpoint)


def test_the_names_are_the_layers(ours: Any) -> None:
    """Which of ours is which of theirs, by hand."""
    layer = ours.AttentiveBatchNorm2d(C, 3)
    source = official.convert_state_dict(layer, filled(AN_A2 | COUNTED)).source
    assert source["weight"] == "weight_"
    assert source["bias"] == "bias_"
    assert source["attention.weight"] == "attention_weights.attention.0.weight"
    assert source["attention_norm.running_var"] == "attention_weights.attention.1.running_var"
    source = official.convert_state_dict(ours.SqueezeExcite(C, 2), filled(SE)).source
    assert source["reduce.bias"] == "fc.0.bias"
    assert source["expand.weight"] == "fc.2.weight"
    source = official.convert_state_dict(ours.NormalizationAttention(), filled(NA)).source
    assert source == {"gain": "weight2", "offset": "bias2"}


def test_the_layer_is_not_changed(ours: Any) -> None:
    layer = ours.RepresentativeBatchNorm2d(C)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    official.convert_state_dict(layer, filled(rbn(1, 1)))
    converted = official.convert_state_dict(layer, filled(AFFINE | COUNTED))
    converted["scale_bias"].fill_(9)
    assert_equal(dict(layer.state_dict()), before)


def test_options_with_fewer_parameters(ours: Any) -> None:
    layer = ours.RepresentativeBatchNorm2d(C, affine=False, scale=None, track_running_stats=False)
    layer.load_state_dict(official.convert_state_dict(layer, filled({"center_weight": (1, C, 1, 1)})))
    with pytest.raises(ValueError, match="left over: weight, scale_bias"):
        official.convert_state_dict(
            layer, filled({"center_weight": (1, C, 1, 1), "weight": (C,), "scale_bias": (1, C, 1, 1)})
        )


def test_one_channel_and_one_component(ours: Any) -> None:
    layer = ours.AttentiveBatchNorm2d(1, 1)
    state = filled({name: tuple(1 for _ in shape) for name, shape in (AN_A2 | COUNTED).items()})
    layer.load_state_dict(official.convert_state_dict(layer, state))
    assert_equal(official.to_official(layer), state)


def test_ratios_follow_the_scopes(ours: Any) -> None:
    """The official order is instance, layer, batch, whatever ours is."""
    layer = ours.SwitchableNorm2d(C, scopes=("batch", "instance", "layer"))
    checkpoint = filled(sn(1, 1))
    layer.load_state_dict(official.convert_state_dict(layer, checkpoint))
    instance, layer_, batch = checkpoint["mean_weight"].tolist()
    assert layer.mean_weight.tolist() == [batch, instance, layer_]
    assert_equal(official.to_official(layer), checkpoint)


@pytest.mark.parametrize("options", [{"scopes": ("layer", "group"), "num_groups": 2}, {"per_group": 2}], ids=str)
def test_no_official_form(ours: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"norm\.mean_weight: expected"):
        official.to_official(nn.ModuleDict({"norm": ours.SwitchableNorm2d(C, **options)}))


# --------------------------------------------------------------------------------------------- SN's sums


def test_sums_of_batches_become_averages(ours: Any) -> None:
    layer = ours.SwitchableNorm2d(C, average="batch", dtype=torch.float64)
    means, variances = torch.randn(5, C, dtype=torch.float64), torch.rand(5, C, dtype=torch.float64)
    checkpoint = {name: value.double() for name, value in filled(sn(1, 1)).items()}
    checkpoint["running_mean"] = means.sum(0).view(1, C, 1)
    checkpoint["running_var"] = (means.square() + variances).sum(0).view(1, C, 1)
    layer.load_state_dict(official.convert_state_dict(layer, checkpoint, batches=5))
    torch.testing.assert_close(layer.running_mean, means.mean(0))
    torch.testing.assert_close(layer.running_var, variances.mean(0) + means.var(0, correction=0))


def test_sums_of_a_constant_are_not_negative_variances(ours: Any) -> None:
    layer = ours.SwitchableNorm2d(C, average="batch")
    checkpoint = filled(sn(1, 1))
    checkpoint["running_mean"] = torch.full((1, C, 1), 3e4)
    checkpoint["running_var"] = torch.full((1, C, 1), 2.999e8)
    assert official.convert_state_dict(layer, checkpoint, batches=3)["running_var"].tolist() == [0.0] * C


def test_batches_of_switchable_layers_only(ours: Any) -> None:
    """In a model with others the sums are SN's; without any they are a mistake."""
    model = nn.ModuleDict({"a": ours.SwitchableNorm2d(C), "b": ours.RepresentativeBatchNorm2d(C)})
    checkpoint = filled(under("a.", sn(1, 1)) | under("b.", rbn(1)))
    checkpoint["a.running_var"] += checkpoint["a.running_mean"] ** 2
    converted = official.convert_state_dict(model, checkpoint, batches=2)
    assert torch.equal(converted["a.running_mean"], checkpoint["a.running_mean"].flatten() / 2)
    assert torch.equal(converted["b.running_mean"], checkpoint["b.running_mean"])
    assert torch.equal(converted["b.running_var"], checkpoint["b.running_var"])
    with pytest.raises(ValueError, match="batches: expected a SwitchableNorm"):
        official.convert_state_dict(model["b"], filled(rbn(1)), batches=2)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="batches"):
            official.convert_state_dict(model, checkpoint, batches=wrong)


def test_half_of_what_a_layer_adds_is_no_batch_norm(ours: Any) -> None:
    checkpoint = filled(rbn(1, 1))
    del checkpoint["center_weight"], checkpoint["scale_bias"]
    with pytest.raises(ValueError, match=r"missing: center_weight, scale_bias$"):
        official.convert_state_dict(ours.RepresentativeBatchNorm2d(C), checkpoint)


# ----------------------------------------------------------------------------------------------- models


class Block(nn.Module):
    def __init__(self, ours: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, C, 3)
        self.norm1 = nn.BatchNorm2d(C)
        self.norm2 = ours.AttentiveBatchNorm2d(C, 3)
        self.gates = nn.Sequential(ours.SqueezeExcite(C, 2), nn.Sequential(ours.SwitchableNorm2d(C)))


def network(ours: Any) -> nn.Sequential:
    return nn.Sequential(Block(ours), Block(ours), nn.Flatten(), nn.Linear(C, 2))


def official_network() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"3.weight": (2, C), "3.bias": (2,)}
    for block in ("0.", "1."):
        shapes |= {f"{block}conv.weight": (C, C, 3, 3), f"{block}conv.bias": (C,)}
        shapes |= under(f"{block}norm1.", AFFINE | COUNTED) | under(f"{block}norm2.", AN_A2 | COUNTED)
        shapes |= under(f"{block}gates.0.", SE) | under(f"{block}gates.1.0.", sn(1, 1))
    return filled(shapes)


def test_a_model_there_and_back(ours: Any) -> None:
    model, checkpoint = network(ours), official_network()
    converted = official.convert_state_dict(model, checkpoint)
    assert list(converted) == list(model.state_dict())
    model.load_state_dict(converted, strict=True)
    assert converted.initialized == [f"{block}.gates.1.0.num_batches_tracked" for block in (0, 1)]
    assert converted.source["1.norm2.attention.weight"] == "1.norm2.attention_weights.attention.0.weight"
    assert converted["0.conv.weight"] is checkpoint["0.conv.weight"]
    state = model.state_dict()
    assert torch.equal(state["1.norm2.weight"], checkpoint["1.norm2.weight_"])
    assert torch.equal(state["0.norm1.weight"], checkpoint["0.norm1.weight"])
    assert torch.equal(state["0.gates.0.reduce.weight"], checkpoint["0.gates.0.fc.0.weight"])
    assert torch.equal(state["1.gates.1.0.bias"], checkpoint["1.gates.1.0.bias"].flatten())
    assert_equal(official.to_official(model), checkpoint)


def test_everything_wrong_is_named(ours: Any) -> None:
    checkpoint = official_network()
    del checkpoint["0.conv.weight"], checkpoint["1.norm2.weight_"], checkpoint["1.gates.1.0.var_weight"]
    checkpoint |= filled({"0.norm2.weight": (C,), "fc.bias": (7,)})
    checkpoint |= filled({"3.weight": (1000, C), "0.gates.1.0.weight": (1, C + 1, 1, 1), "0.norm2.bias_": (C,)})
    with pytest.raises(ValueError, match=r"^state_dict: expected") as error:
        official.convert_state_dict(network(ours), checkpoint)
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert lines[1:3] == [
        "missing: 0.conv.weight, 1.norm2.weight_ (here 1.norm2.weight), 1.gates.1.0.var_weight",
        "left over: 0.norm2.weight, fc.bias",
    ]
    assert sorted(lines[3:]) == [
        "0.gates.1.0.weight: expected shape (4,), got (1, 5, 1, 1)",
        "0.norm2.bias_: expected shape (3, 4), got (4,)",
        "3.weight: expected shape (2, 4), got (1000, 4)",
    ]


@pytest.mark.parametrize("shape", [(C, 1), (1, 1, C), (1, 1, C, 1), (C, C), ()], ids=str)
def test_shapes_that_do_not_fit(ours: Any, shape: tuple[int, ...]) -> None:
    """Dimensions of 1 may follow, and one may come first, never otherwise."""
    layer = ours.RepresentativeBatchNorm2d(C)
    checkpoint = filled(rbn(1, 1)) | filled({"center_weight": shape})
    if shape == (C, 1):
        assert official.convert_state_dict(layer, checkpoint)["center_weight"].shape == (C,)
        return
    with pytest.raises(ValueError, match="center_weight: expected shape"):
        official.convert_state_dict(layer, checkpoint)


def test_a_whole_checkpoint_file_is_refused(ours: Any) -> None:
    with pytest.raises(ValueError, match="left over: epoch, state_dict"):
        official.convert_state_dict(ours.NormalizationAttention(), {"epoch": 3, "state_dict": {}})
    with pytest.raises(ValueError, match=r"weight2: expected shape \(1,\), got int"):
        official.convert_state_dict(ours.NormalizationAttention(), {"weight2": 3, "bias2": torch.ones(1)})


def test_modes_with_two_convolutions_are_refused(ours: Any) -> None:
    """AN's attention_mode 1 and 3."""
    layer = ours.AttentiveBatchNorm2d(C, 3, attention_norm=False)
    hidden = {f"attention_weights.attention.2.{name}": shape for name, shape in (("weight", (3, 6)), ("bias", (3,)))}
    with pytest.raises(ValueError, match=r"left over: attention_weights\.attention\.2\.weight, .*2\.bias"):
        official.convert_state_dict(layer, filled(AN_A1 | COUNTED | hidden))


def test_old_checkpoints_without_counters(ours: Any) -> None:
    """PyTorch before 0.4.1; in every layer, also those that are not ours."""
    model, checkpoint = network(ours), official_network()
    names = [name for name in checkpoint if name.endswith("num_batches_tracked")]
    for name in names:
        del checkpoint[name]
    converted = official.convert_state_dict(model, checkpoint)
    assert len(converted.initialized) == len(names) + 2
    assert all(converted[name] == 0 for name in converted.initialized)
    model.load_state_dict(converted, strict=True)


def test_a_layer_under_two_names(ours: Any) -> None:
    layer = ours.RepresentativeBatchNorm2d(C)
    model = nn.ModuleDict({"a": layer, "b": layer})
    one = filled(rbn(1, 1))
    checkpoint = {f"{name}.{key}": value for name in model for key, value in one.items()}
    model.load_state_dict(official.convert_state_dict(model, checkpoint), strict=True)
    assert_equal(official.to_official(model), checkpoint)


def test_subclasses_are_ours_and_namesakes_are_not(ours: Any) -> None:
    subclass = type("Mine", (ours.NormalizationAttention,), {"__module__": "elsewhere"})()
    assert set(official.to_official(subclass)) == {"weight2", "bias2"}
    namesake = type("AttentiveGroupNorm", (nn.Linear,), {"__module__": "elsewhere"})(2, 2)
    assert set(official.to_official(namesake)) == {"weight", "bias"}


def test_other_layers_of_ours_keep_their_names(ours: Any) -> None:
    model = nn.Sequential(ours.BatchNorm2d(C), ours.GroupNorm(2, C), ours.GlobalResponseNorm(C))
    state = dict(model.state_dict())
    assert_equal(official.to_official(model), state)
    assert_equal(official.convert_state_dict(model, state), state)


def test_to_official_wants_the_models_state(ours: Any) -> None:
    layer = ours.NormalizationAttention()
    with pytest.raises(ValueError, match=r"(?s)missing: offset.*left over: weight"):
        official.to_official(layer, {"gain": torch.ones(1), "weight": torch.ones(1)})


def test_versions_of_modules_go_along(ours: Any) -> None:
    """Modules that have changed read the version a checkpoint was saved with."""
    model = nn.Sequential(nn.BatchNorm2d(C), ours.NormalizationAttention())
    state = nn.Sequential(nn.BatchNorm2d(C), nn.Identity()).state_dict()
    state |= filled(under("1.", NA))
    assert official.convert_state_dict(model, state)._metadata["0"] == {"version": 2}  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------- compositions


def test_compositions_read_one_official_layers_names(ours: Any) -> None:
    parts, heads = ours.standardizations, ours.recalibrations
    batch = AFFINE | COUNTED
    for standardize, recalibrate, shapes in [
        (parts.Batch(C), heads.SqueezeExcite(C, 2), batch | SE),
        (parts.Batch(C), heads.NormalizationAttention(C), batch | NA),
        (parts.Batch(C), heads.Attentive(C, 3), AN_A2 | COUNTED),
        (parts.Representative(C), heads.Scaling(C), rbn(1, 1)),
        (parts.Switchable(C), heads.Affine(C), sn(1, 1)),
    ]:
        model = nn.Sequential(nn.Identity(), ours.RecalibratedNorm(standardize, recalibrate))
        checkpoint = filled(under("1.", shapes))
        model.load_state_dict(official.convert_state_dict(model, checkpoint), strict=True)
        assert_equal(official.to_official(model), checkpoint)


def test_a_composition_is_the_layer(ours: Any) -> None:
    """The same checkpoint in the named layer and in its composition: the same output."""
    checkpoint = {name: value / 10 for name, value in filled(rbn(1, 1)).items()}
    x = torch.randn(3, C, 5, 2)
    outputs = []
    for layer in (
        ours.RepresentativeBatchNorm2d(C),
        ours.RecalibratedNorm(ours.standardizations.Representative(C), ours.recalibrations.Scaling(C)),
    ):
        layer.load_state_dict(official.convert_state_dict(layer, checkpoint), strict=True)
        outputs.append(layer.eval()(x))
    torch.testing.assert_close(*outputs)
