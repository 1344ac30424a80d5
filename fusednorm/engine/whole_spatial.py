"""Representative BatchNorm with statistics over channels at each position as one operator a direction, on the CPU
(csrc/cpu/spatial.cpp): the passes of spatial.py, with what it calculates between them native too.

For RBN's own statistics, over the batch's or given ones. Other standardizations and recalibrations beside a spatial
one go through spatial.py, which keeps the same: either way there goes with either way back.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fusednorm.heads import Affine, Batch, Head, Representative, Running, Scaling

from .backends import kernel
from .function import Spec, Tensors
from .spatial_operators import GRADIENTS, TENSORS


def covers(spec: Spec) -> bool:
    """Whether there is such an operator for a layer of the family "spatial"."""
    head = spec.head
    if spec.group is not None or spec.backend != "cpu" or not isinstance(head, Head):
        return False
    if type(head.standardize) not in (Batch, Running, Representative):
        return False
    then = head.recalibrate
    return type(then) is Affine or (type(then) is Scaling and then.statistic != "input_mean")


def covers_backward(spec: Spec, needs: list[bool]) -> bool:
    """Likewise for the way back; gradients of running statistics are for spatial.py."""
    return covers(spec) and not any(
        needed and name.startswith("running") for name, needed in zip(_names(spec.head), needs, strict=True)
    )


def _names(head: Any) -> tuple[str, ...]:
    """What the operators call the head's tensors, in the head's order."""
    own = ("center_weight",) if isinstance(head.standardize, Representative) else ()
    running = ("running_mean", "running_var") if head.standardize.tensors > len(own) else ()
    gate = ("gate_weight", "gate_bias") if isinstance(head.recalibrate, Scaling) else ()
    return (*own, *running, "weight", "bias", *gate)


def _layer(spec: Spec, tensors: Tensors) -> tuple[Any, ...]:
    """The layer's arguments in the order of the operators' schemas."""
    head = spec.head
    assert isinstance(head, Head)
    found = dict(zip(_names(head), tensors, strict=True))
    center = head.standardize.center if isinstance(head.standardize, Representative) else "none"
    scale, restrict = "none", "sigmoid"
    if isinstance(head.recalibrate, Scaling):
        scale, restrict = head.recalibrate.statistic, str(head.recalibrate.restrict)
    return (*(found.get(name) for name in TENSORS), center, scale, restrict, head.standardize.eps, spec.act)


def forward(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> tuple[Tensor, ...]:
    """As spatial_forward."""
    head = spec.head
    assert isinstance(head, Head)
    y, *found = kernel("spatial_forward", spec.backend)(x, residual, *_layer(spec, tensors))
    return y, y.new_empty((0,)), *found[:7], *found[7 : 7 + head.updates]


def inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensors:
    """As spatial_inplace."""
    found: Tensors = kernel("spatial_forward_inplace", spec.backend)(x, residual, *_layer(spec, tensors))
    return found[: spec.head.updates]


def backward(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    kept: list[Tensor],
    tensors: Tensors,
    needs_dx: bool,
    needs_dresidual: bool,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    """As spatial_backward; kept: what forward found out, from mean to u_var."""
    write_g = residual is not None or (needs_dresidual and spec.act != "identity")
    dx, g, *found = kernel("spatial_backward", spec.backend)(
        dy, x, residual, *kept, *_layer(spec, tensors), needs_dx, write_g
    )
    gradients = dict(zip(GRADIENTS, found, strict=True))
    dtensors = tuple(
        gradients[name].to(t.dtype) if needed and t is not None else None
        for name, t, needed in zip(_names(spec.head), tensors, needs, strict=True)
    )
    dresidual = None if not needs_dresidual else g if write_g else dy
    return dx if needs_dx else None, dresidual, dtensors
