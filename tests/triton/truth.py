"""What the kernels should return, from docs/engine.md's formulas in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {
    "identity": lambda z: z * 1,
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "gelu": F.gelu,
}

# Of one rounding to the type; and of sums in float32, relative to values of about 1.
# The interpreter cuts bfloat16 off where a GPU rounds to nearest.
ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2**-7, torch.float16: 2**-11}
SUMS = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-5, torch.float16: 1e-5}


def over(t: Tensor, x: Tensor) -> Tensor:
    return t.double().reshape(t.shape + (1,) * (x.dim() - 2))


def preactivation(x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None) -> Tensor:
    z = over(scale, x) * (x.double() - over(center, x)) + over(shift, x)
    return z if residual is None else z + residual.double()


def gradient(dy: Tensor, z: Tensor, act: str) -> Tensor:
    z = z.detach().requires_grad_()
    return torch.autograd.grad(ACTIVATIONS[act](z), z, dy.double())[0]


def passes(z: Tensor, act: str) -> Tensor:
    if act == "relu":
        return ~(z <= 0)
    if act == "relu6":
        return ~((z <= 0) | (z >= 6))
    return z > 0


def sums(t: Tensor) -> Tensor:
    return t.flatten(2).sum(-1) if t.dim() > 2 else t


def pack(bits: Tensor, x: Tensor) -> Tensor:
    """One bit after the other, as the contract says it."""
    runs = bits.flatten(2) if bits.dim() > 2 else bits[..., None]
    if x.shape[1] > 1 and x.stride(1) == 1:
        runs = runs.transpose(1, 2)
    n, m, length = runs.shape
    mask = torch.zeros((n, m, (length + 7) // 8), dtype=torch.int32)
    for j in range(length):
        mask[:, :, j // 8] += runs[:, :, j].cpu().int() << (j % 8)
    return mask.to(torch.uint8).to(x.device)


def close(actual: Tensor, expected: Tensor, rtol: float, atol: float | None = None) -> None:
    torch.testing.assert_close(
        actual.double(), expected, rtol=rtol, atol=rtol if atol is None else atol, equal_nan=True
    )
