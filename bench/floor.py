"""The traffic floor: the time that moving the tensors takes, whatever is computed on the way.

One unit is the bytes of x. Time over floor says how good a kernel is, on any machine.
"""

from __future__ import annotations

from .names import Mode

COPY_UNITS = 6  # contenders.copy_step reads x, residual and dy, and writes as much


def floor_units(
    *,
    residual: bool,
    mode: Mode = Mode.train,
    forward_units: int = 3,
    backward_units: int = 5,
    eval_units: int | None = None,
) -> int:
    """Units that a layer moves at least, if no tensor stays in a cache between two passes.

    forward_units, backward_units, eval_units: a layer's own, without a residual (layers.py); eval_units None: as many
    as forward.
    """
    units = forward_units if mode is not Mode.eval or eval_units is None else eval_units
    if residual:
        units += 1  # affine: read the residual too
    if mode is Mode.train:
        units += backward_units
        if residual:
            units += 1  # write dresidual (its values then serve in place of dy: no further read)
    return units


def floor_seconds(units: int, copy_seconds: float) -> float:
    """Time of `units` at the bandwidth that the copies, taking `copy_seconds`, showed."""
    return units / COPY_UNITS * copy_seconds
