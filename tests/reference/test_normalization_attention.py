"""Normalization-Attention against the paper's equations and the official code's similarity, position by position."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fusednorm.reference import NormalizationAttention, context_gate, contextual_similarity, recalibrations

from .samples import SHAPES, check_gradients, randomize, sample, spread

SIMILARITIES = ["l1", "squared", "dot", "mean_difference"]


def similarity(X: Tensor, name: str) -> Tensor:
    """Phi (N, S) with plain Python sums, X (N, C, S)."""
    N, C, S = X.shape
    Phi = torch.empty(N, S, dtype=torch.float64)
    for n in range(N):
        context = [sum(X[n, c].tolist()) / S for c in range(C)]
        for i in range(S):
            x_i = X[n, :, i].tolist()
            pairs = list(zip(x_i, context, strict=True))
            Phi[n, i] = {
                "l1": -sum(abs(x - m) for x, m in pairs),
                "squared": -sum((x - m) ** 2 for x, m in pairs),
                "dot": sum(x * m for x, m in pairs),
                "mean_difference": -abs(sum(x_i) / C - sum(context) / C),
            }[name]
    return Phi


def weighted_sum(X: Tensor, Phi: Tensor) -> Tensor:
    """g (N, C) of eq. 6, p a softmax over positions."""
    N, C, S = X.shape
    g = torch.empty(N, C, dtype=torch.float64)
    for n, c in itertools.product(range(N), range(C)):
        p = [math.exp(phi) for phi in Phi[n].tolist()]
        g[n, c] = sum(p[i] / sum(p) * X[n, c, i].item() for i in range(S))
    return g


def gate(g: Tensor, gamma: float, beta: float, unbiased: bool, eps: float) -> Tensor:
    """Eqs. 7-9, (N, C)."""
    values = []
    for row in g.tolist():
        mu = sum(row) / len(row)
        squares = sum((value - mu) ** 2 for value in row)
        sigma = math.sqrt(squares / (len(row) - 1)) + eps if unbiased else math.sqrt(squares / len(row) + eps)
        values.append([1 / (1 + math.exp(-(gamma * (value - mu) / sigma + beta))) for value in row])
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities(name: str) -> None:
    X = sample((3, 6, 5))
    torch.testing.assert_close(contextual_similarity(X, name), similarity(X, name))


@pytest.mark.parametrize("unbiased", [False, True])
def test_gate(unbiased: bool) -> None:
    g = sample((3, 6))
    gamma, beta = torch.tensor([1.7], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64)
    expected = gate(g, 1.7, -0.4, unbiased, eps=0.1)
    torch.testing.assert_close(context_gate(g, gamma, beta, unbiased, eps=0.1), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*SIMILARITIES, None])
@pytest.mark.parametrize("unbiased", [False, True])
def test_equations_4_to_9(unbiased: bool, name: str | None, shape: tuple[int, ...]) -> None:
    layer = randomize(NormalizationAttention(similarity=name, unbiased=unbiased, eps=1e-2))
    X = sample(shape)
    planes = X.reshape(*shape[:2], -1)
    g = planes.mean(2) if name is None else weighted_sum(planes, similarity(planes, name))
    expected = X * spread(gate(g, layer.gain.item(), layer.offset.item(), unbiased, 1e-2), X)
    torch.testing.assert_close(layer(X), expected)


def test_embedding() -> None:
    """Two convolutions of the mean over channels for the query, two for the key, whose mean is the context."""
    layer = randomize(NormalizationAttention(similarity="mean_difference", embedding=True))
    assert {name: p.shape for name, p in layer.named_parameters()} == {
        "gain": (1,),
        "offset": (1,),
        **{f"{which}.{i}.weight": (1, 1, 3, 3) for which in ("query", "key") for i in (0, 2)},
        **{f"{which}.{i}.bias": (1,) for which in ("query", "key") for i in (0, 2)},
    }
    X = sample((3, 6, 4, 5))
    s = X.mean(1, keepdim=True)
    maps = []
    for f in (layer.query, layer.key):
        padded = functional.pad(s, (1, 1, 1, 1))
        hidden = torch.relu((padded.unfold(2, 3, 1).unfold(3, 3, 1) * f[0].weight).sum((4, 5)) + f[0].bias)
        padded = functional.pad(hidden, (1, 1, 1, 1))
        maps.append((padded.unfold(2, 3, 1).unfold(3, 3, 1) * f[2].weight).sum((4, 5)) + f[2].bias)
    Phi = -(maps[0] - maps[1].mean((2, 3), keepdim=True)).abs().flatten(1)
    g = weighted_sum(X.flatten(2), Phi)
    lambda_ = gate(g, layer.gain.item(), layer.offset.item(), unbiased=False, eps=1e-5)
    torch.testing.assert_close(layer(X), X * spread(lambda_, X))


def test_the_gate_starts_as_sigmoid_of_1() -> None:
    layer = NormalizationAttention()
    assert {name: p.tolist() for name, p in layer.named_parameters()} == {"gain": [0.0], "offset": [1.0]}
    X = sample((3, 6, 4, 3))
    torch.testing.assert_close(layer(X), X / (1 + math.exp(-1)))


def test_it_recalibrates_what_the_affine_transformation_gives() -> None:
    part = randomize(recalibrations.NormalizationAttention(6))
    bare = NormalizationAttention(dtype=torch.float64)
    bare.load_state_dict({name: part.state_dict()[name] for name in ("gain", "offset")})
    x_hat = sample((3, 6, 4, 3))
    z = spread(part.weight, x_hat) * x_hat + spread(part.bias, x_hat)
    torch.testing.assert_close(part(sample((3, 6, 4, 3), seed=5), x_hat), bare(z))


@pytest.mark.parametrize("name", [*SIMILARITIES, None])
def test_the_order_of_positions_does_not_matter(name: str | None) -> None:
    layer = randomize(NormalizationAttention(similarity=name))
    X = sample((3, 6, 4, 3))
    torch.testing.assert_close(layer(X.flip(2, 3)), layer(X).flip(2, 3))


def test_large_similarities_do_not_overflow() -> None:
    layer = randomize(NormalizationAttention(similarity="dot"))
    assert layer(100 * sample((3, 6, 4))).isfinite().all()


@pytest.mark.parametrize("unbiased", [False, True])
def test_one_channel(unbiased: bool) -> None:
    """g equals its own mean: the gate is sigmoid(beta), where the official code gives NaN."""
    layer = randomize(NormalizationAttention(unbiased=unbiased))
    X = sample((3, 1, 4)).requires_grad_()
    y = layer(X)
    torch.testing.assert_close(y, X * torch.sigmoid(layer.offset))
    gradient = torch.autograd.grad(y.sum(), X)[0]
    torch.testing.assert_close(gradient, torch.sigmoid(layer.offset).expand(3, 1, 4))


@pytest.mark.parametrize(
    "options",
    [{"similarity": name, "unbiased": u} for name in [*SIMILARITIES, None] for u in (False, True)]
    + [{"similarity": "mean_difference", "embedding": True}],
    ids=str,
)
def test_gradients(options: dict[str, Any]) -> None:
    check_gradients(randomize(NormalizationAttention(**options)), sample((2, 3, 3, 2)))


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match=r"similarity: .*'l2'"):
        NormalizationAttention(similarity="l2")
    with pytest.raises(ValueError, match=r"^embedding: .*'l1'"):
        NormalizationAttention(embedding=True)
    with pytest.raises(ValueError, match="act must be"):
        NormalizationAttention(act="tanh")
    with pytest.raises(ValueError, match=r"x: expected .* embedding"):
        NormalizationAttention(similarity="mean_difference", embedding=True)(torch.randn(3, 6, 4))
    with pytest.raises(ValueError, match="similarity"):
        contextual_similarity(torch.randn(3, 6, 4), "l2")
