"""Attentive Normalization against the official numbers, and against the paper's equations one by one."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusednorm import reference
from fusednorm.reference import (
    AttentiveBatchNorm1d,
    AttentiveBatchNorm2d,
    AttentiveGroupNorm,
    attention_activation,
    attention_input,
    attentive_recalibration,
)

from .. import golden_cases

CASES = [case for case in golden_cases.CASES if case.constructor.startswith("Attentive")]
INPUTS = ["mean", "mean_std", "rsd"]
ACTS = ["relu", "sigmoid", "softmax", "hsigmoid"]
OPTIONS = [
    {"attention_input": input_, "attention_norm": norm, "attention_act": act}
    for input_, norm, act in itertools.product(INPUTS, [False, True], ACTS)
]


def sample(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Values whose every plane has its own mean and scale, so that the attention has something to see."""
    generator = torch.Generator().manual_seed(seed)
    planes = (*shape[:2], *(1 for _ in shape[2:]))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    scales = 1 + torch.rand(planes, generator=generator, dtype=torch.float64)
    return scales * noise + torch.randn(planes, generator=generator, dtype=torch.float64)


def randomize(layer: Any, seed: int = 1) -> Any:
    """The layer with a random value in every parameter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return layer


def build(kind: str, C: int = 4, K: int = 3, **options: Any) -> Any:
    """A float64 layer with random parameters: kind is "batch" (1-D) or a number of groups."""
    if kind == "batch":
        return randomize(AttentiveBatchNorm1d(C, K, dtype=torch.float64, **options))
    return randomize(AttentiveGroupNorm(int(kind), C, K, dtype=torch.float64, **options))


# ------------------------------------------------------------------------------------ the official numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_golden(case: golden_cases.Case, dtype: torch.dtype) -> None:
    case.check(case.build(reference, dtype), dtype)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.file.startswith("official/")], ids=lambda case: case.name
)
def test_golden_attention_weights(case: golden_cases.Case) -> None:
    layer: Any = case.build(reference)
    expected = case.arrays("aux")
    x = case.arrays("in")["x"]
    torch.testing.assert_close(layer.attention_weights(x), expected["lambda_train"])
    torch.testing.assert_close(layer.eval().attention_weights(x), expected["lambda_eval"])


# ------------------------------------------------------------------------------------- the paper's equations


def test_equation_8_term_by_term() -> None:
    """y_i = sum_k lambda_nk (gamma_kc x_hat_i + beta_kc), the sum written out for every position."""
    N, C, K, S = 2, 3, 4, 5
    x_hat, lambda_ = sample((N, C, S)), sample((N, K))
    gamma, beta = sample((K, C), seed=1), sample((K, C), seed=2)
    y = attentive_recalibration(x_hat, lambda_, gamma, beta)
    assert y.shape == x_hat.shape
    for n, c, i in itertools.product(range(N), range(C), range(S)):
        terms = [lambda_[n, k] * (gamma[k, c] * x_hat[n, c, i] + beta[k, c]) for k in range(K)]
        assert y[n, c, i].item() == pytest.approx(sum(term.item() for term in terms))


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 3), (2, 3, 2, 3, 2)])
def test_attention_input(shape: tuple[int, ...]) -> None:
    """mean, (mean, std) and mean / std of each plane, std^2 = sum (x - mean)^2 / (S - 1) + eps."""
    x, eps = sample(shape), 1e-3
    N, C = shape[:2]
    mean, std = torch.empty(2, N, C, dtype=torch.float64)
    for n, c in itertools.product(range(N), range(C)):
        plane = x[n, c].flatten().tolist()
        m = sum(plane) / len(plane)
        mean[n, c] = m
        std[n, c] = math.sqrt(sum((value - m) ** 2 for value in plane) / (len(plane) - 1) + eps)
    torch.testing.assert_close(attention_input(x, "mean", eps), mean)
    torch.testing.assert_close(attention_input(x, "mean_std", eps), torch.cat((mean, std), dim=1))
    torch.testing.assert_close(attention_input(x, "rsd", eps), mean / std)


def test_attention_activation() -> None:
    a = torch.tensor([[-4.0, -1.0, 0.5], [3.5, 2.0, 0.0]], dtype=torch.float64)
    formulas = {
        "relu": lambda v: max(v, 0.0),
        "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
        "hsigmoid": lambda v: min(max(v + 3.0, 0.0), 6.0) / 6.0,
    }
    for kind, formula in formulas.items():
        expected = torch.tensor([[formula(v) for v in row] for row in a.tolist()], dtype=torch.float64)
        torch.testing.assert_close(attention_activation(a, kind), expected)
    softmax = attention_activation(a, "softmax")
    torch.testing.assert_close(softmax, a.exp() / a.exp().sum(dim=1, keepdim=True))


def test_equation_11_choice_1() -> None:
    layer = build("batch", attention_norm=False, attention_act="sigmoid")
    x = sample((5, 4, 6))
    s = attention_input(x, "rsd", 1e-3)
    expected = torch.sigmoid(s @ layer.attention.weight.T + layer.attention.bias)
    torch.testing.assert_close(layer.attention_weights(x), expected)


def test_equation_11_choice_2() -> None:
    """BN over the samples after an fc without bias, eps 1e-5 and momentum 0.1 whatever the outer ones are."""
    layer = build("batch", attention_act="sigmoid", eps=0.5, momentum=0.9)
    norm = nn.BatchNorm1d(3, eps=1e-5, momentum=0.1, dtype=torch.float64)
    norm.load_state_dict(layer.attention_norm.state_dict())
    x = sample((5, 4, 6))
    s = attention_input(x, "rsd", 1e-3)
    assert layer.attention.bias is None
    torch.testing.assert_close(layer.attention_weights(x), torch.sigmoid(norm(s @ layer.attention.weight.T)))
    for key, value in norm.state_dict().items():
        torch.testing.assert_close(layer.attention_norm.state_dict()[key], value)
    layer.eval(), norm.eval()
    torch.testing.assert_close(layer.attention_weights(x), torch.sigmoid(norm(s @ layer.attention.weight.T)))


@pytest.mark.parametrize("kind", ["batch", "1", "2", "4"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layer_is_equation_8_on_torchs_x_hat(kind: str, options: dict[str, Any]) -> None:
    """Any x_hat with any attention, over positions of 0 to 2 dimensions; eps is x_hat's alone."""
    layer = build(kind, eps=1e-2, **options)
    for shape in [(5, 4), (5, 4, 6), (5, 4, 3, 2)]:
        x = sample(shape)
        if kind == "batch" and x.dim() == 4:
            continue
        if kind == "batch":
            x_hat = functional.batch_norm(x, None, None, training=True, eps=1e-2)
        else:
            x_hat = functional.group_norm(x, int(kind), eps=1e-2)
        expected = attentive_recalibration(x_hat, layer.attention_weights(x), layer.weight, layer.bias)
        torch.testing.assert_close(layer(x), expected)


def test_one_component_of_weight_1_is_batch_norm() -> None:
    """K = 1 and lambda = 1 (hsigmoid of 3): eq. 8 becomes eq. 2."""
    layer = randomize(AttentiveBatchNorm2d(4, 1, attention_norm=False, dtype=torch.float64))
    batch_norm = nn.BatchNorm2d(4, dtype=torch.float64)
    with torch.no_grad():
        layer.attention.weight.zero_()
        layer.attention.bias.fill_(3)
        batch_norm.weight.copy_(layer.weight[0])
        batch_norm.bias.copy_(layer.bias[0])
    x = sample((3, 4, 5, 2))
    torch.testing.assert_close(layer(x), batch_norm(x))
    torch.testing.assert_close(layer.eval()(x), batch_norm.eval()(x))
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(layer.state_dict()[key], batch_norm.state_dict()[key])


def test_equal_components_under_softmax_are_group_norm() -> None:
    """The weights sum to 1, so that K equal components act as one."""
    layer = build("2", attention_act="softmax")
    with torch.no_grad():
        layer.weight.copy_(layer.weight[0].expand(3, 4))
        layer.bias.copy_(layer.bias[0].expand(3, 4))
    x = sample((3, 4, 5))
    torch.testing.assert_close(layer(x), functional.group_norm(x, 2, layer.weight[0], layer.bias[0]))


def test_the_attention_sees_x_before_standardization() -> None:
    """Footnote 1. Shifting all of x leaves x_hat as it is, but not lambda."""
    layer = build("batch", attention_input="mean", attention_norm=False, attention_act="sigmoid")
    x = sample((3, 4, 5))
    torch.testing.assert_close(layer.standardize(x + 1), layer.standardize(x))
    assert (layer.attention_weights(x + 1) - layer.attention_weights(x)).abs().min() > 1e-3


def test_choice_2_couples_the_samples_of_a_batch_in_training_only() -> None:
    layer = build("2", attention_norm=True)
    x = sample((5, 4, 6))
    assert (layer(x)[:4] - layer(x[:4])).abs().max() > 1e-3
    layer.eval()
    torch.testing.assert_close(layer(x)[:4], layer(x[:4]))


# --------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("kind", ["batch", "2"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_first_and_second_derivatives(kind: str, options: dict[str, Any]) -> None:
    layer = build(kind, K=2, act="silu", **options)
    parameters = dict(layer.named_parameters())

    def run(x: Tensor, residual: Tensor, *values: Tensor) -> Tensor:
        state = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(layer, state, (x, residual))

    x, residual = sample((3, 4, 3)).requires_grad_(), sample((3, 4, 3), seed=1).requires_grad_()
    inputs = (x, residual, *parameters.values())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)


def test_derivatives_in_evaluation() -> None:
    layer = build("batch", K=2)
    layer(sample((3, 4, 3), seed=2))
    layer.eval()
    x = sample((3, 4, 3)).requires_grad_()
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


@pytest.mark.parametrize("kind", ["batch", "1", "4"])
@pytest.mark.parametrize("attention_input", INPUTS)
def test_planes_of_one_position_are_finite(kind: str, attention_input: str) -> None:
    """Their variance is 0 (the official code has 0/0 there), and so std = sqrt(attention_eps)."""
    layer = build(kind, attention_input=attention_input, attention_eps=0.04)
    for shape in [(5, 4), (5, 4, 1)]:
        x = sample(shape).requires_grad_()
        flat = x.flatten(1)
        std = torch.full_like(flat, 0.2)
        expected = {"mean": flat, "mean_std": torch.cat((flat, std), 1), "rsd": flat / std}
        s = reference.attention_input(x, attention_input, 0.04)
        torch.testing.assert_close(s, expected[attention_input])
        assert layer(x).isfinite().all()
        assert torch.autograd.gradcheck(layer, (x,))
        assert torch.autograd.gradgradcheck(layer, (x,))


# -------------------------------------------------------------------------------- state and other mechanics


def test_state_dict_keys_and_shapes() -> None:
    def shapes(layer: nn.Module) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in layer.state_dict().items()}

    mixture = {"weight": (10, 4), "bias": (10, 4)}
    statistics = {"running_mean": (4,), "running_var": (4,), "num_batches_tracked": ()}
    norm = {
        "attention_norm.weight": (10,),
        "attention_norm.bias": (10,),
        "attention_norm.running_mean": (10,),
        "attention_norm.running_var": (10,),
        "attention_norm.num_batches_tracked": (),
    }
    fc, fc_bias = {"attention.weight": (10, 4)}, {"attention.bias": (10,)}
    assert shapes(AttentiveBatchNorm2d(4)) == mixture | statistics | fc | norm
    assert shapes(AttentiveBatchNorm2d(4, attention_norm=False)) == mixture | statistics | fc | fc_bias
    assert shapes(AttentiveGroupNorm(2, 4)) == mixture | fc | fc_bias
    assert shapes(AttentiveGroupNorm(2, 4, attention_norm=True)) == mixture | fc | norm
    wide = {"attention.weight": (10, 8)}
    assert shapes(AttentiveGroupNorm(2, 4, attention_input="mean_std")) == mixture | wide | fc_bias


@pytest.mark.parametrize("momentum", [None, 0.3])
def test_running_statistics_are_batch_norms(momentum: float | None) -> None:
    layer = build("batch", momentum=momentum)
    batch_norm = nn.BatchNorm1d(4, momentum=momentum, dtype=torch.float64)
    for seed in range(3):
        x = sample((5, 4, 6), seed)
        layer(x), batch_norm(x)
        for key in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(layer.state_dict()[key], batch_norm.state_dict()[key])
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    layer.eval()(sample((5, 4, 6), seed=9))
    torch.testing.assert_close(dict(layer.state_dict()), before, rtol=0, atol=0)


def test_without_running_statistics_evaluation_is_as_training() -> None:
    layer = build("batch", track_running_stats=False)
    assert not list(layer.buffers())
    x = sample((5, 4, 6))
    y = layer(x)
    assert not list(layer.buffers())
    torch.testing.assert_close(layer.eval()(x), y, rtol=0, atol=0)


def test_initial_values() -> None:
    torch.manual_seed(0)
    layer = AttentiveBatchNorm2d(2000, 20, attention_norm=False)
    for p, mean, std in [
        (layer.weight, 1.0, 0.1),
        (layer.bias, 0.0, 0.1),
        (layer.attention.weight, 0.0, math.sqrt(2 / 20)),
    ]:
        assert p.mean().item() == pytest.approx(mean, abs=0.02 * std)
        assert p.std().item() == pytest.approx(std, rel=0.02)
    assert not layer.attention.bias.any()
    norm: Any = AttentiveBatchNorm2d(8).attention_norm
    assert torch.equal(norm.weight, torch.ones(10))
    assert not norm.bias.any()


@pytest.mark.parametrize("kind", ["batch", "2"])
def test_residual_and_act_come_last(kind: str) -> None:
    layer, plain = build(kind, act="leaky_relu"), build(kind)
    x, residual = sample((5, 4, 6)), sample((5, 4, 6), seed=1)
    expected = plain(x) + residual
    assert 0 < (expected < 0).sum() < expected.numel()
    torch.testing.assert_close(layer(x, residual), functional.leaky_relu(expected, 0.01))


@pytest.mark.parametrize("kind", ["batch", "2"])
def test_half_types_are_computed_in_float32_and_rounded_once(kind: str) -> None:
    layer = build(kind, attention_norm=True).float()
    x = sample((5, 4, 6)).bfloat16()
    y = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, layer(x.float()).bfloat16())
    layer.bfloat16()
    assert layer(x).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["batch", "2"])
@pytest.mark.parametrize("training", [True, False])
def test_compiles_as_one_graph(kind: str, training: bool) -> None:
    layers = [build(kind, attention_norm=True, act="relu").train(training) for _ in range(2)]
    layers[1].compile(fullgraph=True, backend="aot_eager")
    results = []
    for layer in layers:
        x, residual = sample((5, 4, 6)).requires_grad_(), sample((5, 4, 6), seed=1)
        y = layer(x, residual)
        gradients = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
        results.append((y, gradients, dict(layer.state_dict())))
    torch.testing.assert_close(results[0], results[1])


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="attention_input"):
        AttentiveBatchNorm2d(4, attention_input="std")
    with pytest.raises(ValueError, match="attention_act"):
        AttentiveGroupNorm(2, 4, attention_act="tanh")
    with pytest.raises(ValueError, match="act must be"):
        AttentiveGroupNorm(2, 4, act="tanh")
    with pytest.raises(ValueError, match="more than 1 value"):  # the attention's BN over a single sample
        AttentiveBatchNorm2d(4)(torch.randn(1, 4, 3, 3))
    assert AttentiveBatchNorm2d(4, attention_norm=False)(torch.randn(1, 4, 3, 3)).isfinite().all()
