"""NaN and the corners, through the kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

from .maps import normal
from .truth import ACTIVATIONS, close, gradient

CORNERS = [-3.0, 3.0, 0.0, -0.0, 6.0, -40.0, 40.0, -0.5]


def numbers() -> tuple[Tensor, Tensor, Tensor]:
    """center, scale and shift that make z of x."""
    return torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_values_and_derivatives_at_the_corners(act: str) -> None:
    z = torch.tensor(CORNERS).reshape(1, 1, -1)
    dy = normal(torch.float32)(*z.shape)
    y, _ = triton_kernels.plane_affine(z, *numbers(), None, act, False)
    dx = triton_kernels.plane_affine_grad(dy, z, *numbers(), None, None, None, None, act)
    close(y, ACTIVATIONS[act](z.double()), 1e-6)
    close(dx, gradient(dy, z.double(), act), 1e-6)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nan_in_z(act: str) -> None:
    z = torch.full((1, 1, 8), float("nan"))
    y, _ = triton_kernels.plane_affine(z, *numbers(), None, act, False)
    assert y.isnan().all()
    dx = triton_kernels.plane_affine_grad(torch.ones_like(z), z, *numbers(), None, None, None, None, act)
    expected = {"identity": 1.0, "relu": 1.0, "relu6": 1.0, "leaky_relu": 0.01}.get(act, float("nan"))
    torch.testing.assert_close(dx, torch.full_like(z, expected), equal_nan=True)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_nan_in_dy(act: str) -> None:
    z = torch.full((1, 1, 8), 1.0)
    dx = triton_kernels.plane_affine_grad(z * float("nan"), z, *numbers(), None, None, None, None, act)
    assert dx.isnan().all()
