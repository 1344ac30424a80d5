"""Representative Batch Normalization against the paper's equations one by one, and against torch's BatchNorm."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusednorm import reference
from fusednorm.reference import (
    BatchNorm2d,
    RepresentativeBatchNorm1d,
    RepresentativeBatchNorm2d,
    instance_statistic,
    recalibrations,
    standardizations,
)

from .samples import SHAPES, check_gradients, randomize, sample, spread

STATISTICS = ["mean", "std", "spatial_mean", "spatial_std"]
CHOICES = [*STATISTICS, None]
RESTRICTIONS = {
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "tanh": lambda a: (1 + math.tanh(a)) / 2,
    "hsigmoid": lambda a: min(max(a + 3, 0.0), 6.0) / 6,
}


def layer_for(shape: tuple[int, ...], **options: Any) -> Any:
    dims = {2: 1, 3: 1, 4: 2, 5: 3}[len(shape)]
    return randomize(getattr(reference, f"RepresentativeBatchNorm{dims}d")(shape[1], **options))


def statistic(X: Tensor, name: str) -> Tensor:
    """K, of X's shape: each value's mean or deviation with plain Python sums."""
    flat = X.reshape(*X.shape[:2], -1)
    K = torch.empty_like(flat)
    N, C, S = flat.shape
    for n, c, i in itertools.product(range(N), range(C), range(S)):
        values = (flat[n, :, i] if name.startswith("spatial") else flat[n, c]).tolist()
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        K[n, c, i] = mean if name.endswith("mean") else math.sqrt(variance)
    return K.view(X.shape)


# ------------------------------------------------------------------------------------- the paper's equations


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", STATISTICS)
def test_instance_statistics(name: str, shape: tuple[int, ...]) -> None:
    X = sample(shape)
    K = instance_statistic(X, name)
    torch.testing.assert_close(K.expand(shape), statistic(X, name))
    assert K.shape == (
        (shape[0], 1, *shape[2:]) if name.startswith("spatial") else (*shape[:2], *(1 for _ in shape[2:]))
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("center", CHOICES)
def test_centering_equations_5_to_8(center: str | None, shape: tuple[int, ...]) -> None:
    part = randomize(standardizations.Representative(shape[1], eps=1e-2, center=center))
    X = sample(shape)
    X_cm = X if center is None else X + spread(part.center_weight, X) * statistic(X, center)
    mean, var = part.running_mean.clone(), part.running_var.clone()
    expected = functional.batch_norm(X_cm, mean, var, training=True, momentum=0.1, eps=1e-2)
    torch.testing.assert_close(part(X), expected)
    torch.testing.assert_close(part.running_mean, mean)  # of the centred map
    torch.testing.assert_close(part.running_var, var)
    after = {name: buffer.clone() for name, buffer in part.named_buffers()}
    part.eval()
    torch.testing.assert_close(part(X), functional.batch_norm(X_cm, mean, var, eps=1e-2))
    torch.testing.assert_close(dict(part.named_buffers()), after, rtol=0, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", STATISTICS)
@pytest.mark.parametrize("restrict", RESTRICTIONS)
def test_scaling_equations_9_and_12(restrict: str, scale: str, shape: tuple[int, ...]) -> None:
    part = randomize(recalibrations.Scaling(shape[1], scale=scale, restrict=restrict))
    X_s = sample(shape)
    a = spread(part.scale_weight, X_s) * statistic(X_s, scale) + spread(part.scale_bias, X_s)
    R = torch.tensor([RESTRICTIONS[restrict](value) for value in a.flatten().tolist()], dtype=torch.float64)
    expected = spread(part.weight, X_s) * (X_s * R.view(shape)) + spread(part.bias, X_s)
    torch.testing.assert_close(part(sample(shape, seed=9), X_s), expected)  # whatever x is


def test_hsigmoid_is_bounded() -> None:
    part = randomize(recalibrations.Scaling(6, affine=False, restrict="hsigmoid"))
    with torch.no_grad():
        part.scale_weight.fill_(5.0)
    X_s = sample((3, 6, 4))
    a = 5 * X_s.mean(2, keepdim=True) + spread(part.scale_bias, X_s)
    R = part(X_s, X_s) / X_s
    assert (a < -3).any()
    assert (a > 3).any()
    torch.testing.assert_close(R, ((a + 3) / 6).clamp(0, 1).expand_as(R))


@pytest.mark.parametrize(("center", "scale"), list(itertools.product(CHOICES, CHOICES)))
def test_layer_is_both_calibrations(center: str | None, scale: str | None) -> None:
    layer = layer_for((3, 6, 4, 3), center=center, scale=scale, restrict="tanh", eps=1e-3)
    X = sample((3, 6, 4, 3))
    X_cm = X if center is None else X + spread(layer.center_weight, X) * statistic(X, center)
    X_s = functional.batch_norm(X_cm, None, None, training=True, eps=1e-3)
    X_cs = X_s
    if scale is not None:
        a = spread(layer.scale_weight, X_s) * statistic(X_s, scale) + spread(layer.scale_bias, X_s)
        X_cs = X_s * (1 + torch.tanh(a)) / 2
    torch.testing.assert_close(layer(X), spread(layer.weight, X) * X_cs + spread(layer.bias, X))


def test_a_callable_restricts() -> None:
    layer = layer_for((3, 6, 4, 3), restrict="sigmoid")
    other = RepresentativeBatchNorm2d(6, restrict=lambda a: torch.sigmoid(a), dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    X = sample((3, 6, 4, 3))
    torch.testing.assert_close(other(X), layer(X))
    constant = RepresentativeBatchNorm2d(6, restrict=torch.ones_like, dtype=torch.float64)
    torch.testing.assert_close(constant(X), BatchNorm2d(6, dtype=torch.float64)(X))


# ------------------------------------------------------------------------------------- relations and states


@pytest.mark.parametrize(("center", "scale"), [("mean", "mean"), ("std", "spatial_std"), ("spatial_mean", "std")])
def test_at_the_beginning_it_is_r_of_1_times_batch_norm(center: str, scale: str) -> None:
    layer = RepresentativeBatchNorm2d(6, center=center, scale=scale, dtype=torch.float64)
    theirs = nn.BatchNorm2d(6, dtype=torch.float64)
    for seed in range(3):
        X = sample((3, 6, 4, 3), seed)
        torch.testing.assert_close(layer(X), theirs(X) / (1 + math.exp(-1)))
    torch.testing.assert_close(layer.eval()(X), theirs.eval()(X) / (1 + math.exp(-1)))
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(layer.state_dict()[key], theirs.state_dict()[key])


@pytest.mark.parametrize(
    "arguments", [{}, {"momentum": None}, {"momentum": 0.3}, {"track_running_stats": False}], ids=str
)
def test_running_statistics_follow_torchs_of_the_centred_map(arguments: dict[str, Any]) -> None:
    layer = layer_for((3, 6, 4, 3), center="std", scale=None, affine=False, **arguments)
    theirs = nn.BatchNorm2d(6, affine=False, dtype=torch.float64, **arguments)
    theirs.load_state_dict({key: layer.state_dict()[key] for key in theirs.state_dict()})
    for seed in range(4):
        if seed == 3:
            layer.eval(), theirs.eval()
        X = sample((3, 6, 4, 3), seed)
        torch.testing.assert_close(layer(X), theirs(layer.centred(X)))
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(layer.state_dict()[key], value)


def test_state() -> None:
    running = {"running_mean", "running_var", "num_batches_tracked"}
    scale = {"scale_weight", "scale_bias"}
    every = {"weight", "bias", "center_weight", *scale, *running}
    for options, missing in [
        ({}, set()),
        ({"affine": False}, {"weight", "bias"}),
        ({"center": None}, {"center_weight"}),
        ({"scale": None}, scale),
        ({"track_running_stats": False}, running),
    ]:
        layer: Any = RepresentativeBatchNorm2d(6, **options)  # type: ignore[arg-type]
        assert layer.state_dict().keys() == every - missing
        assert all(getattr(layer, name) is None for name in missing)
    starts = {"weight": 1, "bias": 0, "center_weight": 0, "scale_weight": 0, "scale_bias": 1}
    for name, p in RepresentativeBatchNorm2d(6).named_parameters():
        assert torch.equal(p, torch.full((6,), float(starts[name])))


@pytest.mark.parametrize(("center", "scale"), list(itertools.product(CHOICES, CHOICES)))
@pytest.mark.parametrize("training", [True, False])
def test_gradients(training: bool, center: str | None, scale: str | None) -> None:
    layer = layer_for((3, 4, 3), center=center, scale=scale).train(training)
    check_gradients(layer, sample((3, 4, 3)))


@pytest.mark.parametrize(("center", "scale"), [("std", "std"), ("spatial_std", "spatial_std")])
def test_constant_features_have_deviation_0_with_derivative_0(center: str, scale: str) -> None:
    layer: Any = RepresentativeBatchNorm2d(6, center=center, scale=scale, dtype=torch.float64)
    with torch.no_grad():
        layer.scale_weight.fill_(1.0)
    X = sample((3, 6, 4, 3))
    X[1] = 2.0
    X.requires_grad_()
    y = layer(X)
    gradients = torch.autograd.grad(y.square().sum(), [X, *layer.parameters()], create_graph=True)
    assert all(g.isfinite().all() for g in (y, *gradients))
    second = torch.autograd.grad(torch.cat([g.flatten() for g in gradients]).square().sum(), X)
    assert second[0].isfinite().all()


def test_one_position() -> None:
    X = sample((5, 6))
    layer = layer_for(X.shape, scale="std")  # 0 everywhere
    X_cm = X + layer.center_weight * X
    X_s = functional.batch_norm(X_cm, None, None, training=True)
    y = layer(X)
    torch.testing.assert_close(y, layer.weight * X_s * torch.sigmoid(layer.scale_bias) + layer.bias)
    torch.testing.assert_close(layer(X.unsqueeze(2)), y.unsqueeze(2))


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match=r"center: .*'median'"):
        RepresentativeBatchNorm2d(6, center="median")
    with pytest.raises(ValueError, match=r"scale: .*'median'"):
        RepresentativeBatchNorm2d(6, scale="median")
    with pytest.raises(ValueError, match=r"restrict: .*'relu'"):
        RepresentativeBatchNorm2d(6, restrict="relu")
    with pytest.raises(ValueError, match=r"act must be"):
        RepresentativeBatchNorm2d(6, act="tanh")
    with pytest.raises(ValueError, match=r"x: expected 6 channels"):
        RepresentativeBatchNorm2d(6)(torch.randn(3, 1, 4, 4))  # would broadcast
    with pytest.raises(ValueError, match=r"x: expected .* dimensions"):
        RepresentativeBatchNorm1d(6)(torch.randn(3, 6, 4, 4))
    with pytest.raises(ValueError, match="more than 1 value"):
        RepresentativeBatchNorm1d(6)(torch.randn(1, 6))
