"""Switchable Normalization against the paper's equations, the official variances, and torch's layers."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusednorm import reference
from fusednorm.reference import SwitchableNorm1d, SwitchableNorm2d, scope_moments, standardizations

from .samples import SHAPES, check_gradients, randomize, sample, spread

SCOPES = ["instance", "layer", "batch", "group"]
SUBSETS = [subset for k in range(1, 5) for subset in itertools.combinations(SCOPES, k)]


def layer_for(shape: tuple[int, ...], **options: Any) -> Any:
    dims = {2: 1, 3: 1, 4: 2, 5: 3}[len(shape)]
    return randomize(getattr(reference, f"SwitchableNorm{dims}d")(shape[1], **options))


def pixels(h: Tensor, scope: str, n: int, c: int, size: int) -> Tensor:
    """I_k of eq. 2: all values that h[n, c] shares the statistics of a scope with."""
    first = c // size * size
    return {
        "instance": h[n, c],
        "layer": h[n],
        "batch": h[:, c],
        "group": h[n, first : first + size],
    }[scope].flatten()


# ------------------------------------------------------------------------------------- the statistics


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", SCOPES)
def test_equation_2(scope: str, shape: tuple[int, ...]) -> None:
    h = sample(shape)
    mu, var = (moment.expand(shape) for moment in scope_moments(h, scope, num_groups=3))
    for n, c in itertools.product(range(shape[0]), range(shape[1])):
        values = pixels(h, scope, n, c, size=2).tolist()
        mean = sum(values) / len(values)
        torch.testing.assert_close(mu[n, c], torch.full_like(mu[n, c], mean))
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        torch.testing.assert_close(var[n, c], torch.full_like(var[n, c], variance))


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("scope", SCOPES)
def test_unbiased_is_eq_4_made_of_the_unbiased_variance_of_planes(scope: str, shape: tuple[int, ...]) -> None:
    """sigma2_k = mean(sigma2_in + mu_in^2) - mu_k^2, as the official code calculates."""
    h = sample(shape)
    planes = h.flatten(2)
    m, v = planes.mean(2), planes.var(2, correction=1)
    mu, var = (moment.expand(shape).flatten(2)[..., 0] for moment in scope_moments(h, scope, 3, unbiased=True))
    for n, c in itertools.product(range(shape[0]), range(shape[1])):
        m_k, v_k = (pixels(t, scope, n, c, size=2) for t in (m, v))
        mean = m_k.mean()
        torch.testing.assert_close(mu[n, c], mean)
        torch.testing.assert_close(var[n, c], (v_k + m_k.square()).mean() - mean.square())


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 1, 1)])
@pytest.mark.parametrize("scope", SCOPES)
def test_unbiased_without_positions(scope: str, shape: tuple[int, ...]) -> None:
    """The unbiased variance of all values, as the official SwitchNorm1d; 0 of a single value."""
    h = sample(shape)
    _, var = scope_moments(h, scope, num_groups=3, unbiased=True)
    for n, c in itertools.product(range(shape[0]), range(shape[1])):
        values = pixels(h, scope, n, c, size=2)
        expected = values.var(correction=1) if len(values) > 1 else torch.zeros((), dtype=torch.float64)
        torch.testing.assert_close(var.expand(shape)[n, c].squeeze(), expected)


# ------------------------------------------------------------------------------------- the paper's equations


@pytest.mark.parametrize("scopes", SUBSETS, ids="+".join)
@pytest.mark.parametrize("unbiased", [False, True])
def test_equations_3_and_5(unbiased: bool, scopes: tuple[str, ...]) -> None:
    layer = layer_for((3, 6, 4, 3), scopes=scopes, unbiased=unbiased, num_groups=3, eps=1e-3)
    h = sample((3, 6, 4, 3))
    w, w_prime = (lambda_.exp() / lambda_.exp().sum() for lambda_ in (layer.mean_weight, layer.var_weight))
    moments = [scope_moments(h, scope, 3, unbiased) for scope in scopes]
    mu = sum(w[k] * mu_k for k, (mu_k, _) in enumerate(moments))
    sigma2 = sum(w_prime[k] * sigma2_k for k, (_, sigma2_k) in enumerate(moments))
    expected = spread(layer.weight, h) * (h - mu) / (sigma2 + 1e-3).sqrt() + spread(layer.bias, h)
    torch.testing.assert_close(layer(h), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", SCOPES)
def test_one_scope_is_a_layer_of_torch(scope: str, shape: tuple[int, ...]) -> None:
    """Chosen by the ratios, and by `scopes`."""
    h = sample(shape)
    expected = {
        "instance": lambda: functional.group_norm(h, 6),
        "layer": lambda: functional.layer_norm(h, shape[1:]),
        "batch": lambda: functional.batch_norm(h, None, None, training=True),
        "group": lambda: functional.group_norm(h, 3),
    }[scope]()
    chosen = layer_for(shape, affine=False, scopes=SCOPES, num_groups=3)
    one_hot = torch.full((4,), -1e4, dtype=torch.float64)
    one_hot[SCOPES.index(scope)] = 0
    chosen.load_state_dict(chosen.state_dict() | {"mean_weight": one_hot, "var_weight": one_hot})
    torch.testing.assert_close(chosen(h), expected)
    torch.testing.assert_close(layer_for(shape, affine=False, scopes=[scope], num_groups=3)(h), expected)


def test_mean_and_variance_have_ratios_of_their_own() -> None:
    layer = layer_for((3, 6, 4, 3), affine=False, scopes=("instance", "layer"))
    state = {"mean_weight": torch.tensor([0.0, -1e4]), "var_weight": torch.tensor([-1e4, 0.0])}
    layer.load_state_dict(state)
    h = sample((3, 6, 4, 3))
    var = h.var((1, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(layer(h), (h - h.mean((2, 3), keepdim=True)) / (var + 1e-5).sqrt())


def test_groups_of_channels_with_ratios_of_their_own() -> None:
    """Each group's output is that of a layer with its ratios throughout; the layer scope spans all channels."""
    layer = layer_for((3, 6, 4, 3), per_group=3)
    assert layer.mean_weight.shape == layer.var_weight.shape == (3, 3)
    h = sample((3, 6, 4, 3))
    y = layer(h)
    for group in range(3):
        channels = slice(2 * group, 2 * group + 2)
        plain = layer_for((3, 6, 4, 3))
        state = {name: layer.state_dict()[name][group] for name in ("mean_weight", "var_weight")}
        plain.load_state_dict(plain.state_dict() | {n: layer.state_dict()[n] for n in ("weight", "bias")} | state)
        torch.testing.assert_close(y[:, channels], plain(h)[:, channels])


# ------------------------------------------------------------------------------------- running statistics


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.003, None])
def test_moving_average(momentum: float | None, unbiased: bool) -> None:
    """Of the batch scope's mu and sigma2 as they are, in torch's convention of momentum."""
    layer: Any = SwitchableNorm2d(6, momentum=momentum, unbiased=unbiased, dtype=torch.float64)
    mean, var = torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    for step in range(1, 4):
        h = sample((3, 6, 4, 3), seed=step)
        layer(h)
        p = 1 / step if momentum is None else momentum
        mu, sigma2 = (moment.flatten() for moment in scope_moments(h, "batch", unbiased=unbiased))
        mean, var = (1 - p) * mean + p * mu, (1 - p) * var + p * sigma2
        torch.testing.assert_close(layer.running_mean, mean)
        torch.testing.assert_close(layer.running_var, var)
        assert layer.num_batches_tracked.item() == step


@pytest.mark.parametrize("average", ["moving", "batch"])
def test_evaluation_takes_the_running_statistics_for_the_batch_scope(average: str) -> None:
    layer = layer_for((3, 6, 4, 3), average=average).eval()
    h = sample((3, 6, 4, 3))
    w, w_prime = layer.mean_weight.softmax(0), layer.var_weight.softmax(0)
    (m, v), (mu, var) = (scope_moments(h, scope) for scope in ("instance", "layer"))
    mean = w[0] * m + w[1] * mu + w[2] * spread(layer.running_mean, h)
    variance = w_prime[0] * v + w_prime[1] * var + w_prime[2] * spread(layer.running_var, h)
    expected = spread(layer.weight, h) * (h - mean) / (variance + 1e-5).sqrt() + spread(layer.bias, h)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.testing.assert_close(layer(h), expected)
    torch.testing.assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)


def test_batch_average_leaves_the_running_statistics_alone() -> None:
    layer = layer_for((3, 6, 4, 3), average="batch")
    moving = layer_for((3, 6, 4, 3))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    h = sample((3, 6, 4, 3))
    torch.testing.assert_close(layer(h), moving(h))
    torch.testing.assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)
    assert (moving.running_mean - before["running_mean"]).abs().min() > 0


def test_without_running_statistics_evaluation_is_as_training() -> None:
    layer = layer_for((3, 6, 4, 3), track_running_stats=False)
    assert not list(layer.buffers())
    h = sample((3, 6, 4, 3))
    y = layer(h)
    torch.testing.assert_close(layer.eval()(h), y, rtol=0, atol=0)


def test_no_batch_scope_has_no_buffers_and_takes_one_sample_alone() -> None:
    layer = layer_for((3, 6, 4, 3), scopes=("instance", "layer"))
    assert not list(layer.buffers())
    h = sample((3, 6, 4, 3))
    torch.testing.assert_close(torch.cat([layer(sample_) for sample_ in h.split(1)]), layer(h))


def test_batch_scope_alone_is_batch_norm_but_for_the_running_variance() -> None:
    layer = layer_for((3, 6, 4, 3), scopes=("batch",))
    theirs = nn.BatchNorm2d(6, dtype=torch.float64)
    theirs.load_state_dict({key: layer.state_dict()[key] for key in theirs.state_dict()})
    start = layer.running_var.clone()
    h = sample((3, 6, 4, 3))
    torch.testing.assert_close(layer(h), theirs(h))
    torch.testing.assert_close(layer.running_mean, theirs.running_mean)
    values = 3 * 4 * 3
    assert theirs.running_var is not None
    torch.testing.assert_close(
        (layer.running_var - 0.9 * start) * values / (values - 1), theirs.running_var - 0.9 * start
    )


# ------------------------------------------------------------------------------------- state, derivatives, input


def test_state() -> None:
    layer = SwitchableNorm2d(6)
    assert layer.state_dict().keys() == {
        "weight", "bias", "mean_weight", "var_weight", "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip
    assert layer.state_dict()["num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(dict(layer.state_dict())["mean_weight"], torch.ones(3))
    assert layer.scopes == ("instance", "layer", "batch")
    assert SwitchableNorm1d(6).scopes == ("layer", "batch")
    assert SwitchableNorm2d(6, affine=False, scopes=["layer"]).state_dict().keys() == {"mean_weight", "var_weight"}
    assert standardizations.Switchable(6).state_dict().keys() == layer.state_dict().keys() - {"weight", "bias"}


@pytest.mark.parametrize("scopes", SUBSETS, ids="+".join)
@pytest.mark.parametrize("options", [{}, {"unbiased": True}, {"per_group": 2}], ids=str)
def test_gradients(options: dict[str, Any], scopes: tuple[str, ...]) -> None:
    layer = layer_for((3, 4, 3), scopes=scopes, num_groups=2, **options)
    check_gradients(layer, sample((3, 4, 3)), twice=len(scopes) > 2)
    check_gradients(layer.eval(), sample((3, 4, 3)), twice=False)


@pytest.mark.parametrize("unbiased", [False, True])
def test_one_position_in_appendix_g(unbiased: bool) -> None:
    """SN of recurrent cells: layer and group on (N, C)."""
    layer = layer_for((5, 6), scopes=("layer", "group"), num_groups=2, unbiased=unbiased)
    h = sample((5, 6))
    y = layer(h)
    torch.testing.assert_close(layer(h.unsqueeze(2)), y.unsqueeze(2))
    check_gradients(layer, h)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"scopes": ()}, "scopes"),
        ({"scopes": ("layer", "layer")}, "scopes"),
        ({"scopes": ("layer", "channel")}, "scopes"),
        ({"average": "running"}, "average"),
        ({"per_group": 4}, "per_group"),
        ({"per_group": 0}, "per_group"),
        ({"num_groups": 4}, "num_groups"),
        ({"num_groups": 0}, "num_groups"),
        ({"act": "tanh"}, "act"),
    ],
    ids=str,
)
def test_refused_arguments(options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        SwitchableNorm2d(6, **options)


def test_refused_inputs() -> None:
    with pytest.raises(ValueError, match="x: expected 6 channels"):
        SwitchableNorm2d(6)(torch.randn(3, 1, 4, 4))
    with pytest.raises(ValueError, match=r"x: expected .* dimensions"):
        SwitchableNorm2d(6)(torch.randn(3, 6, 4))
    with pytest.raises(ValueError, match="more than 1 value"):
        SwitchableNorm1d(6)(torch.randn(1, 6))
    assert SwitchableNorm1d(6, scopes=["layer"])(torch.randn(1, 6)).isfinite().all()
