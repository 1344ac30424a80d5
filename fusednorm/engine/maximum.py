"""max(z, level), level a value a channel: filter response normalization's thresholded unit, after the fused passes.

For backward it keeps y, which whoever reads it keeps anyway: g = dy where y > level, dlevel the sum of the rest.
Traffic in units of z: 2 forward; 5 backward, which reads dy and y, writes g, and reads dy and g for their sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .backends import choose, kernel
from .entry import transformed


def maximum(z: Tensor, level: Tensor) -> Tensor:
    """z (N, C, *positions) and level (C), both float32 or float64. Where they are equal the gradient is level's."""
    if transformed() or torch.compiler.is_exporting():  # a Function's gradient would not be exported
        column = _column(z, level)
        return torch.where(z <= column, column, z)
    y: Tensor = _Maximum.apply(z, level)
    return y


def maximum_inplace(z: Tensor, level: Tensor) -> Tensor:
    """maximum over z, of any type, for rounding keeps the order of values. Nothing wants a gradient."""
    return z.clamp_min_(_column(z, level).to(z.dtype))


def _column(z: Tensor, level: Tensor) -> Tensor:
    return level.view(-1, *(1 for _ in z.shape[2:]))


class _Maximum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, level: Tensor) -> Tensor:
        y = torch.maximum(z, _column(z, level))
        ctx.save_for_backward(y, level)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        y, level = ctx.saved_tensors
        if y.numel() == 0 or (torch.is_grad_enabled() and not torch.compiler.is_compiling()):
            blocked = y <= _column(y, level)
            kept = (0, *range(2, y.dim()))
            return dy.masked_fill(blocked, 0), torch.where(blocked, dy, 0).sum(kept)
        planes = level.expand(y.shape[:2])
        one, zero = torch.ones_like(planes), torch.zeros_like(planes)
        backend = choose(y)
        g = kernel("plane_affine_grad", backend)(dy, y, planes, one, zero, None, None, None, None, "relu")
        if not ctx.needs_input_grad[1]:
            return g, None
        reduce = kernel("plane_affine_reduce", backend)
        all_of, through = (reduce(t, t, zero, one, zero, None, None, "identity", False)[2] for t in (dy, g))
        return g, (all_of - through).sum(0)
