"""The activations a layer may end with, and what their backward pass has to know."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

NAMES = ("identity", "relu", "relu6", "leaky_relu", "silu", "hardswish", "gelu")

# With a residual, one bit a value (did the gradient pass whole?) serves these; the others need z again.
MASKED = ("relu", "relu6", "leaky_relu")


def leaky_slope() -> float:
    """torch.nn.LeakyReLU's default. A function, for the compiler: heads.recalibrate.attention_norm_eps."""
    return 0.01


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": lambda z: F.leaky_relu(z, leaky_slope()),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}


def activate(z: Tensor, act: str) -> Tensor:
    """act(z), differentiable."""
    return _FUNCTIONS[act](z)


_INPLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda z: z,
    "relu": torch.relu_,
    "relu6": lambda z: F.relu6(z, inplace=True),
    "leaky_relu": lambda z: F.leaky_relu(z, leaky_slope(), inplace=True),
    "silu": lambda z: F.silu(z, inplace=True),
    "hardswish": lambda z: F.hardswish(z, inplace=True),
    "gelu": lambda z: z.copy_(F.gelu(z)),
}


def activate_inplace(z: Tensor, act: str) -> None:
    """act(z) over z."""
    _INPLACE[act](z)


def passes(z: Tensor, act: str) -> Tensor:
    """For a masked activation: where the gradient passes whole. NaN's does in relu, as in PyTorch, and in relu6."""
    if act == "relu":
        return ~(z <= 0)
    if act == "relu6":
        return ~((z <= 0) | (z >= 6))
    return z > 0


def masked_gradient(dy: Tensor, bits: Tensor, act: str) -> Tensor:
    """dy * act'(z) from the bits of `passes`."""
    return torch.where(bits, dy, dy * leaky_slope() if act == "leaky_relu" else 0.0)


def gradient(dy: Tensor, z: Tensor, act: str) -> Tensor:
    """dy * act'(z)."""
    if act == "identity":
        return dy
    if act in MASKED:
        return masked_gradient(dy, passes(z, act), act)
    if act == "silu":
        sigma = torch.sigmoid(z)
        return dy * sigma * (1 + z * (1 - sigma))
    if act == "hardswish":
        inner = torch.where(z >= 3, 1.0, z / 3 + 0.5)
        return dy * torch.where(z <= -3, 0.0, inner)
    cdf = 0.5 * (1 + torch.erf(z * math.sqrt(0.5)))
    pdf = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return dy * (cdf + z * pdf)
