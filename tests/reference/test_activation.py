"""act(y + residual) against the activations' formulas."""

import math

import pytest
import torch

from fusednorm.reference import GroupNorm, activate
from fusednorm.reference.activation import ACTIVATIONS

FORMULAS = {
    "relu": lambda z: max(z, 0.0),
    "relu6": lambda z: min(max(z, 0.0), 6.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "silu": lambda z: z / (1 + math.exp(-z)),
    "hardswish": lambda z: z * min(max(z + 3, 0.0), 6.0) / 6,
    "gelu": lambda z: z * 0.5 * (1 + math.erf(z / math.sqrt(2))),
}


def test_every_activation_has_a_formula_here() -> None:
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("act", FORMULAS)
def test_activation_after_residual(act: str) -> None:
    y = torch.linspace(-9, 9, 37, dtype=torch.float64)
    residual = torch.linspace(1.3, -0.4, 37, dtype=torch.float64)
    expected = torch.tensor([FORMULAS[act](z) for z in (y + residual).tolist()], dtype=torch.float64)
    torch.testing.assert_close(activate(y, residual, act), expected)
    expected = torch.tensor([FORMULAS[act](z) for z in y.tolist()], dtype=torch.float64)
    torch.testing.assert_close(activate(y, None, act), expected)


def test_nothing_to_do() -> None:
    y, residual = torch.randn(2, 7)
    assert torch.equal(activate(y), y)
    assert torch.equal(activate(y, residual), y + residual)


@pytest.mark.parametrize("act", FORMULAS)
def test_second_derivatives(act: str) -> None:
    y = torch.tensor([-7.1, -2.3, -0.4, 0.7, 2.2, 5.1, 6.6], dtype=torch.float64, requires_grad=True)
    residual = torch.full_like(y, 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda y, r: activate(y, r, act), (y, residual))
    assert torch.autograd.gradgradcheck(lambda y, r: activate(y, r, act), (y, residual))


def test_an_unknown_activation_is_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="swish9"):
        GroupNorm(1, 4, act="swish9")
