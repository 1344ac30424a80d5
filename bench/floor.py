"""The traffic floor: the time that moving the tensors takes, whatever is computed on the way.

One unit is the bytes of x. Time over floor says how good a kernel is, on any machine.
"""

from __future__ import annotations

COPY_UNITS = 6  # contenders.copy_step reads x, residual and dy, and writes as much


def floor_units(*, residual: bool, backward: bool = True, forward_units: int = 3, backward_units: int = 5) -> int:
    """Units that a layer moves at least, if no tensor stays in a cache between two passes.

    forward_units, backward_units: a layer's own, without a residual (layers.py).
    """
    if residual:
        forward_units += 1  # affine: read the residual too
        backward_units += 1  # write dresidual (its values then serve in place of dy: no further read)
    return forward_units + (backward_units if backward else 0)


def floor_seconds(units: int, copy_seconds: float) -> float:
    """Time of `units` at the bandwidth that the copies, taking `copy_seconds`, showed."""
    return units / COPY_UNITS * copy_seconds
