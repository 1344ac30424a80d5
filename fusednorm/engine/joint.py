"""Two kernels of docs/positions.md that are one where a backend gains by it: a map is read once where what a position's
channels add up to is known before they are gone.

`cuda` keeps samples that fit on the chip (resident.py); `cpu` finds all channels of a few positions in the caches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusednorm.heads.planes import position_statistic

from . import resident
from .backends import kernel
from .layout import positions

# Of csrc/cuda/position_kept.h: x, or x and dy, with four rows and eight coefficients.
FORWARD, BACKWARD = resident.Room(1, 4, 8), resident.Room(2, 4, 8)


def blocks(name: str, backend: str, x: Tensor, residual: Tensor | None) -> int:
    """In how many blocks a GPU keeps a sample for an operator that is two in one, on a CPU 1; 0 where it is two."""
    if backend == "cuda":
        room = BACKWARD if name == "position_affine_spread_reduce" else FORWARD
        return resident.blocks(x, (residual,), room)
    return int(backend == "cpu" and name != "position_moments_affine")


def moments_pool(backend: str, x: Tensor, center: Tensor, statistic: str) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance over channels of x at each position (N, S), and the covariance of their statistic with each
    plane (N, C)."""
    if count := blocks("position_moments_pool", backend, x, None):
        mean, var, cov = kernel("position_moments_pool", backend)(x, center, statistic, count)
        return mean, var, cov
    # of x as it is, not of (x - center) + center: where all channels are alike their deviation is exactly 0
    zero = torch.zeros_like(center)
    mean, var = kernel("position_moments", backend)(x, zero, torch.ones_like(center), zero, None, None)
    t = position_statistic(mean, var, statistic)
    row = (t - t.mean(1, keepdim=True)) / positions(x)
    cov, _ = kernel("plane_pool", backend)(x, center, row, "sum")
    return mean, var, cov


def moments_affine(
    backend: str,
    x: Tensor,
    affine: tuple[Tensor | None, ...],
    residual: Tensor | None,
    statistic: str,
    restrict: str,
    act: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, and mean and variance over channels of e (N, S), of which u is the statistic.

    affine: from center to gate_bias, as position_affine takes them.
    """
    if count := blocks("position_moments_affine", backend, x, residual):
        joint = kernel("position_moments_affine", backend)
        y, mean, var = joint(x, *affine, residual, statistic, restrict, act, count)
        return y, mean, var
    mean, var = kernel("position_moments", backend)(x, *affine[:5])
    u = position_statistic(mean, var, statistic)
    return kernel("position_affine", backend)(x, *affine, u, residual, restrict, act), mean, var


def moments_affine_inplace(
    backend: str,
    x: Tensor,
    affine: tuple[Tensor | None, ...],
    residual: Tensor | None,
    statistic: str,
    restrict: str,
    act: str,
) -> None:
    """moments_affine, with y written over x."""
    if count := blocks("position_moments_affine", backend, x, residual):
        joint = kernel("position_moments_affine_inplace", backend)
        joint(x, *affine, residual, statistic, restrict, act, count)
        return
    mean, var = kernel("position_moments", backend)(x, *affine[:5])
    u = position_statistic(mean, var, statistic)
    kernel("position_affine_inplace", backend)(x, *affine, u, residual, restrict, act)


def spread_reduce(
    backend: str,
    dy: Tensor,
    x: Tensor,
    affine: tuple[Tensor | None, ...],
    residual: Tensor | None,
    du_offset: Tensor,
    du_slope: Tensor,
    restrict: str,
    act: str,
    write_g: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """g, where asked for, du (N, S) and the sums (7, N, C), with e_offset = du*du_offset and e_slope = du*du_slope.

    affine: from center to u, as the kernels of docs/positions.md take them.
    """
    if count := blocks("position_affine_spread_reduce", backend, x, residual):
        joint = kernel("position_affine_spread_reduce", backend)
        g, du, sums = joint(dy, x, *affine, residual, du_offset, du_slope, restrict, act, write_g, count)
        return g, du, sums
    spread, reduce = (kernel(f"position_affine_{name}", backend) for name in ("spread", "reduce"))
    # Not in 16 bits: the sums are better of g as it is than as it would be written.
    early = write_g and x.dtype.itemsize > 2
    g, du, _ = spread(dy, x, *affine, residual, None, None, None, restrict, act, early)
    slopes = (du * du_offset, du * du_slope)
    if early:
        return g, du, reduce(g, x, *affine, None, *slopes, restrict, "identity", False)[1]
    g, sums = reduce(dy, x, *affine, residual, *slopes, restrict, act, write_g)
    return g, du, sums
