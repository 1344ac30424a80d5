"""position_affine_spread, then position_affine_reduce with what its sums say: du times an offset and a slope."""

from __future__ import annotations

from torch import Tensor

from .backends import kernel
from .layout import is_channels_last


def is_joint(backend: str, x: Tensor) -> bool:
    """Where one kernel is both: on a CPU, in channels_last, a position's channels are at hand when du is known."""
    return backend == "cpu" and is_channels_last(x)


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
    if is_joint(backend, x):
        joint = kernel("position_affine_spread_reduce", backend)
        return joint(dy, x, *affine, residual, du_offset, du_slope, restrict, act, write_g)
    spread, reduce = (kernel(f"position_affine_{name}", backend) for name in ("spread", "reduce"))
    # Not in 16 bits: the sums are better of g as it is than as it would be written.
    early = write_g and x.dtype.itemsize > 2
    g, du, _ = spread(dy, x, *affine, residual, None, None, None, restrict, act, early)
    slopes = (du * du_offset, du * du_slope)
    if early:
        return g, du, reduce(g, x, *affine, None, *slopes, restrict, "identity", False)[1]
    g, sums = reduce(dy, x, *affine, residual, *slopes, restrict, act, write_g)
    return g, du, sums
