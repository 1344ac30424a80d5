"""fusednorm.inspect: numbers against the reference's formulas, and a model left as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusednorm
from fusednorm import recalibrations, reference, standardizations
from fusednorm.inspection import Inspection
from tests.reference.samples import randomize, sample

C, K = 6, 4
BACKENDS = [name for name, backend in fusednorm.backends().items() if backend.available]


def twins(kind: str, *args: Any, seed: int = 1, **options: Any) -> tuple[nn.Module, Any]:
    """The fused layer and the reference's, in float64 with the same random tensors."""
    layer = randomize(getattr(fusednorm, kind)(*args, **options), seed)
    truth = getattr(reference, kind)(*args, **options).double()
    truth.load_state_dict(layer.state_dict())
    return layer, truth.eval()


def only(inspection: Inspection) -> Any:
    (layer,) = inspection.layers
    return layer


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("attention_input", ["mean", "mean_std", "rsd"])
@pytest.mark.parametrize(("attention_act", "attention_norm"), [("softmax", True), ("hsigmoid", True), ("relu", False)])
def test_attention(backend: str, attention_input: str, attention_act: str, attention_norm: bool) -> None:
    options = {"attention_input": attention_input, "attention_act": attention_act, "attention_norm": attention_norm}
    layer, truth = twins("AttentiveBatchNorm2d", C, K, **options)
    x = sample((5, C, 4, 3))
    with fusednorm.use_backend(backend):
        found = only(fusednorm.inspect(layer, x)).attention
    expected = truth.attention_weights(x)
    assert found.shape == (5, K)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_attention_by_its_formula() -> None:
    """AN eqs. 7 and 11, written out once more."""
    layer, _ = twins("AttentiveBatchNorm2d", C, K)
    x = sample((5, C, 4, 3))
    rsd = x.mean((2, 3)) / (x.var((2, 3), unbiased=True) + 1e-3).sqrt()
    norm: Any = layer.attention_norm
    a = (rsd @ layer.attention.weight.t() - norm.running_mean) / (norm.running_var + 1e-5).sqrt()
    expected = (a * norm.weight + norm.bias + 3).clamp(0, 6) / 6
    torch.testing.assert_close(only(fusednorm.inspect(layer, x)).attention, expected.detach())


def test_attention_explains_the_layer_s_output() -> None:
    """y = sum_k lambda_k (weight_k x_hat + bias_k), of a pair's layer over switchable statistics."""
    layer = fusednorm.RecalibratedNorm(standardizations.Switchable(C), recalibrations.Attentive(C, K))
    layer = randomize(layer).eval()
    x = sample((5, C, 4, 3))
    found = only(fusednorm.inspect(layer, x))
    x_hat = layer.standardize(x)
    scale, shift = found.attention @ found.mixture_weight, found.attention @ found.mixture_bias
    expected = scale[..., None, None] * x_hat + shift[..., None, None]
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_lower_precision(dtype: torch.dtype) -> None:
    layer, truth = twins("AttentiveBatchNorm2d", C, K)
    x = sample((5, C, 4, 3)).to(dtype)
    expected = truth.attention_weights(x.double())
    found = only(fusednorm.inspect(layer.float(), x)).attention
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unbiased_shape", [(5, C), (5, C, 1, 1)])
def test_planes_of_one_position(unbiased_shape: tuple[int, ...]) -> None:
    kind = "AttentiveBatchNorm1d" if len(unbiased_shape) == 2 else "AttentiveBatchNorm2d"
    layer, truth = twins(kind, C, K)
    x = sample(unbiased_shape)
    torch.testing.assert_close(only(fusednorm.inspect(layer, x)).attention, truth.attention_weights(x))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("center", ["mean", "std", "spatial_mean", None])
@pytest.mark.parametrize("scale", ["mean", "std", "spatial_mean", "spatial_std"])
def test_spread(backend: str, center: str | None, scale: str) -> None:
    """The deviation of mu_c of X_s and of X_cs, RBN eqs. 8 and 9."""
    layer, truth = twins("RepresentativeBatchNorm2d", C, center=center, scale=scale)
    x = sample((5, C, 4, 3))
    with fusednorm.use_backend(backend):
        spread = only(fusednorm.inspect(layer, x)).spread
    X_s = truth.standardize(x)
    for found, expected in ((spread.before, X_s), (spread.after, truth.scaled(X_s))):
        torch.testing.assert_close(found, expected.mean((2, 3)).std(0), rtol=1e-7, atol=1e-9)


def test_spread_by_its_formula() -> None:
    layer, _ = twins("RepresentativeBatchNorm2d", C)
    x = sample((5, C, 4, 3))

    def of_channels(name: str) -> Tensor:
        return layer.get_parameter(name)[:, None, None]

    running_mean, running_var = layer.running_mean[:, None, None], layer.running_var[:, None, None]
    x_cm = x + of_channels("center_weight") * x.mean((2, 3), keepdim=True)
    x_hat = (x_cm - running_mean) / (running_var + 1e-5).sqrt()
    gate = torch.sigmoid(of_channels("scale_weight") * x_hat.mean((2, 3), keepdim=True) + of_channels("scale_bias"))
    spread = only(fusednorm.inspect(layer, x)).spread
    torch.testing.assert_close(spread.before, x_hat.mean((2, 3)).std(0).detach())
    torch.testing.assert_close(spread.after, (x_hat * gate).mean((2, 3)).std(0).detach())


def test_calibration_weights_are_copies() -> None:
    layer, _ = twins("RepresentativeBatchNorm2d", C)
    found = only(fusednorm.inspect(layer))
    for name in ("center_weight", "scale_weight", "scale_bias"):
        kept, own = getattr(found, name), layer.get_parameter(name)
        assert torch.equal(kept, own)
        assert not kept.requires_grad
        with torch.no_grad():
            own.add_(1)
        assert not torch.equal(kept, own)
    assert found.spread is None


@pytest.mark.parametrize("options", [{"center": None}, {"scale": None}])
def test_half_a_calibration(options: dict[str, Any]) -> None:
    found = only(fusednorm.inspect(twins("RepresentativeBatchNorm2d", C, **options)[0], sample((5, C, 4, 3))))
    assert (found.center_weight is None) == ("center" in options)
    assert (found.scale_weight is None) == (found.spread is None) == ("scale" in options)


def test_one_sample_has_no_spread() -> None:
    assert only(fusednorm.inspect(twins("RepresentativeBatchNorm2d", C)[0], sample((1, C, 4, 3)))).spread is None


@pytest.mark.parametrize("options", [{}, {"per_group": 3}, {"scopes": ("layer", "group", "batch"), "num_groups": 2}])
def test_importance(options: dict[str, Any]) -> None:
    layer, truth = twins("SwitchableNorm2d", C, **options)
    found = only(fusednorm.inspect(layer)).importance
    for what, control in (("mean", truth.mean_weight), ("var", truth.var_weight)):
        expected = control.detach().softmax(-1)
        assert list(found[what]) == list(layer.scopes)
        torch.testing.assert_close(torch.stack(list(found[what].values()), -1), expected)


class Network(nn.Module):
    """One layer of each kind, one called twice, one never, one in a pair, and dropout, which evaluation leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, C, 3)
        self.bn = fusednorm.BatchNorm2d(C)
        self.sn = fusednorm.SwitchableNorm2d(C)
        self.body = nn.Sequential(fusednorm.RepresentativeBatchNorm2d(C), nn.Dropout(0.5), nn.BatchNorm2d(C))
        self.twice = fusednorm.AttentiveBatchNorm2d(C, K, act="relu")
        self.pair = fusednorm.RecalibratedNorm(standardizations.Representative(C), recalibrations.Attentive(C, K))
        self.never = fusednorm.AttentiveGroupNorm(2, C, K)
        self.alias = self.sn

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.sn(self.bn(self.conv(x))))
        result: Tensor = self.pair(x=self.twice(self.twice(x), residual=x))
        return result


def test_a_network() -> None:
    torch.manual_seed(0)
    inspection = fusednorm.inspect(Network(), torch.randn(5, 3, 8, 8))
    assert [layer.name for layer in inspection.layers] == ["bn", "sn", "body.0", "twice", "pair", "never"]
    assert inspection["pair"].kind == "Representative + Attentive"
    assert inspection["twice"].attention.shape == (10, K)
    assert inspection["pair"].attention.shape == (5, K)
    assert inspection["pair"].center_weight is not None
    assert inspection["never"].attention is None
    assert [layer.name for layer in inspection.having("mixture_weight")] == ["twice", "pair", "never"]
    with pytest.raises(KeyError, match="nothing"):
        inspection["nothing"]


def state(model: nn.Module) -> list[Any]:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    versions = [t._version for t in (*model.parameters(), *model.buffers())]
    grads = [(p.requires_grad, p.grad) for p in model.parameters()]
    return [[m.training for m in model.modules()], hooks, versions, grads, torch.get_rng_state().tolist()]


@pytest.mark.parametrize("breaks", [False, True], ids=["", "it raises"])
def test_the_model_is_left_as_it_was(breaks: bool) -> None:
    model = Network()
    x = torch.randn(4, 3, 8, 8)
    model(x)  # records the layers' calls
    model.body[2].eval()
    wrong = torch.randn(4, 5, 8, 8)
    before = state(model)
    values = {name: value.clone() for name, value in model.state_dict().items()}
    if breaks:
        model.never.register_forward_pre_hook(lambda *_: None)  # one of somebody's own
        before = state(model)
        with pytest.raises(RuntimeError):
            fusednorm.inspect(model, wrong)
    else:
        fusednorm.inspect(model, x)
    assert state(model) == before
    for name, value in model.state_dict().items():
        assert torch.equal(value, values[name]), name
    assert not torch.equal(model(x), model(x))  # it trains on: dropout is out, statistics move
    assert model.bn.num_batches_tracked == 3


def test_an_empty_batch() -> None:
    model = nn.Sequential(fusednorm.RepresentativeBatchNorm2d(C), fusednorm.AttentiveBatchNorm2d(C, K))
    calibration, attentive = fusednorm.inspect(model, torch.randn(0, C, 4, 4)).layers
    assert calibration.spread is None
    assert attentive.attention.shape == (0, K)


def test_batches_of_all_kinds() -> None:
    layer, x = fusednorm.AttentiveBatchNorm2d(C, K), torch.randn(5, C, 4, 4)
    expected = only(fusednorm.inspect(layer, x)).attention
    for batch in ((x, x), [x], {"x": x, "residual": x}):
        assert torch.equal(only(fusednorm.inspect(layer, batch)).attention, expected)


def test_a_compiled_model_runs_eagerly() -> None:
    layer, x = fusednorm.AttentiveBatchNorm2d(C, K), torch.randn(5, C, 4, 4)
    expected = only(fusednorm.inspect(layer, x)).attention
    layer.compile(backend="eager")
    assert torch.equal(only(fusednorm.inspect(layer, x)).attention, expected)


@pytest.mark.parametrize("model", [nn.BatchNorm2d(3), nn.Sequential(nn.Linear(2, 2)), nn.Identity()])
def test_a_model_without_fused_layers(model: nn.Module) -> None:
    with pytest.raises(ValueError, match="model: expected one with fused layers, there is none"):
        fusednorm.inspect(model)


def test_the_table() -> None:
    torch.manual_seed(0)
    model = Network()
    text = str(fusednorm.inspect(model, torch.randn(5, 3, 8, 8)))
    assert "Others: 1 BatchNorm2d" in text
    third = f"{1 / 3:.3f}"
    rows = {line.split()[0]: line for line in text.splitlines() if line}
    assert rows["sn"].split()[1:] == [third] * 6
    assert rows["body.0"].split()[1:10] == ["0.000", "±", "0.000", "0.000", "±", "0.000", "1.000", "±", "0.000"]
    # The gate starts as sigmoid(1) everywhere, and makes the spread so much smaller.
    spread = fusednorm.inspect(model, torch.randn(5, 3, 8, 8))["body.0"].spread
    torch.testing.assert_close(spread.after, spread.before / (1 + math.exp(-1)))
    assert text.count("\ntwice") == 1
    assert "mean instance" in text
    assert max(map(len, text.splitlines())) < 120
