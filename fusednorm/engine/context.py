"""The Normalization-Attention module's way over positions (heads/context.py): the steps between the kernels of
docs/positions.md, and the autograd around them.

Forward reads x for the plane means, the position sums t and the pooled sums, and writes y from it: 5 units; backward
reads dy and x for the gate's sums, x for dp and for t's way back, and writes dx from both: 7. "mean_difference" of a
bare map needs no plane means: 4 and 6. A residual adds its own reads, and the writing of its gradient. Where a GPU
keeps a sample on the chip it is 2 and 3, and one operator a direction there and on the CPU: whole_context.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fusednorm.heads import Head, Identity
from fusednorm.heads.context import Maps, context_of, inner_map, own_tensors
from fusednorm.heads.samples import Pools

from . import plain, whole_context
from .backends import kernel
from .calculation import calculate, vjp, vjp_of
from .function import Spec, Tensors, family
from .layout import positions


def context_forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool
) -> tuple[Tensor, ...]:
    """y, mask, mean, var, t, p, pooled, what was exchanged, and the head's statistics."""
    if count := whole_context.blocks(spec, x, (residual,), maps=1):
        y, mask, mean, var, _, _, *kept = whole_context.forward(spec, x, residual, tensors, save_mask, count)
        return y, mask, mean, var, *kept
    f = _up_to_affine(spec, x, tensors)
    y, mask = kernel("plane_affine", spec.backend)(x, f.center, f.scale, f.shift, residual, spec.act, save_mask)
    return y, mask, f.mean, f.var, f.t, f.p, f.pooled, *f.exchanged, *f.statistics


def context_inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensors:
    if count := whole_context.blocks(spec, x, (residual,), maps=1):
        return whole_context.inplace(spec, x, residual, tensors, count)
    f = _up_to_affine(spec, x, tensors)
    kernel("plane_affine_inplace", spec.backend)(x, f.center, f.scale, f.shift, residual, spec.act)
    return f.statistics


class _Found(NamedTuple):
    """What forward found out over x before it writes y."""

    mean: Tensor
    var: Tensor
    center: Tensor
    scale: Tensor
    shift: Tensor
    t: Tensor
    p: Tensor
    pooled: Tensor
    exchanged: tuple[Tensor, ...]
    statistics: Tensors


def _up_to_affine(spec: Spec, x: Tensor, tensors: Tensors) -> _Found:
    head = spec.head
    assert isinstance(head, Head)
    if head.needs_moments:
        mean, var = kernel("plane_moments", spec.backend)(x)
    else:
        mean, var = plain.without_moments(x, head, tensors)
    center, context = mean.to(var.dtype), context_of(head)
    with plain.full_precision(x):
        inputs = (center, mean, var, positions(x), tensors)
        found, exchanged = calculate(spec, x, lambda pools: inner_map(head, *inputs, pools))
        (scale, shift, w, offset), statistics = found
        t = kernel("position_reduce", spec.backend)(x, center, w, context.kind)
        rest = own_tensors(head, tensors, center.dtype)
        p = context.positions(t, offset, *rest)
        pooled, _ = kernel("plane_pool", spec.backend)(x, center, p, "sum")
        scale, shift = context.outer(pooled, scale, shift, *rest)
    return _Found(mean, var, center, scale, shift, t, p, pooled, exchanged, statistics)


def context_backward(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    outputs: list[Tensor],
    tensors: Tensors,
    needs_dx: bool,
    needs_dresidual: bool,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    if count := whole_context.backward_blocks(spec, x, residual, needs):
        mean, _, *rest = outputs
        dx, dresidual, dtensors = whole_context.backward(
            spec, dy, x, residual, mask, (mean, *rest), tensors, needs_dresidual, needs, count
        )
        return dx if needs_dx else None, dresidual, dtensors
    with plain.full_precision(x):
        return _way_back(spec, dy, x, residual, mask, outputs, tensors, needs_dx, needs_dresidual, needs)


CONTEXT = family("ContextNorm", context_forward, context_inplace, context_backward, 7)


def _way_back(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    outputs: list[Tensor],
    tensors: Tensors,
    needs_dx: bool,
    needs_dresidual: bool,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    mean, var, t, p, pooled, *exchanged = outputs
    head, act, center, S = spec.head, spec.act, mean.to(var.dtype), positions(x)
    assert isinstance(head, Head)
    context = context_of(head)
    wanted = [i for i, needed in enumerate(needs) if needed]

    def with_moving(moving: tuple[Tensor, ...]) -> Tensors:
        moved = list(tensors)
        for i, tensor in zip(wanted, moving, strict=True):
            moved[i] = tensor
        return tuple(moved)

    def inner(pools: Pools, m: Tensor, v: Tensor, *moving: Tensor) -> Maps:
        return inner_map(head, center, m, v, S, with_moving(moving), pools)[0]

    def weights(t: Tensor, offset: Tensor, *moving: Tensor) -> Tensor:
        return context.positions(t, offset, *own_tensors(head, with_moving(moving), center.dtype))

    def outer(pooled: Tensor, scale: Tensor, shift: Tensor, *moving: Tensor) -> tuple[Tensor, Tensor]:
        return context.outer(pooled, scale, shift, *own_tensors(head, with_moving(moving), center.dtype))

    moving = tuple(tensors[i] for i in wanted)
    (scale0, shift0, w, offset), inner_vjp = vjp_of(spec, exchanged, inner, mean, var, *moving)
    _, weights_vjp = vjp(weights, t, offset, *moving)
    (scale, shift), outer_vjp = vjp(outer, pooled, scale0, shift0, *moving)

    # g, written by the first pass where it is dresidual, and where the last one would have to know z or the mask
    write_g = act != "identity" and (needs_dresidual or residual is not None or mask is not None)
    reduce = kernel("plane_affine_reduce", spec.backend)
    g, dscale, dshift = reduce(dy, x, center, scale, shift, residual, mask, act, write_g)
    if write_g:
        dy, residual, act = g, None, "identity"
    dpooled, dscale0, dshift0, *d_outer = outer_vjp((dscale, dshift))
    dp = kernel("position_reduce", spec.backend)(x, center, dpooled, "sum")
    dt, doffset, *d_weights = weights_vjp(dp)
    constant = context.similarity == "mean_difference" and isinstance(head.standardize, Identity) and not any(needs[:2])
    dw = torch.zeros_like(center)
    slope = None
    if not constant:
        dw, slope = kernel("plane_pool", spec.backend)(x, center, dt, context.kind)
    dm, dv, *d_inner = inner_vjp((dscale0, dshift0, dw, doffset))
    if context.kind != "sum":  # sums around the plane mean
        assert slope is not None
        dm = dm - w * slope
    dtensors: list[Tensor | None] = [None] * len(tensors)
    for i, grads in zip(wanted, zip(d_outer, d_weights, d_inner, strict=True), strict=True):
        dtensors[i] = grads[0] + grads[1] + grads[2]
    dresidual = dy if needs_dresidual else None
    if not needs_dx:
        return None, dresidual, tuple(dtensors)
    a, b = (dv * (2 / S), (dm / S).to(center.dtype)) if head.needs_moments else (None, None)
    one, zero = torch.ones_like(center), torch.zeros_like(center)
    dx = kernel("position_affine_grad", spec.backend)(
        dy, x, center, scale, shift, None, None, one, zero, None, None, None, residual, None, None,
        a, b, dpooled[None], p[None], w, dt, context.kind, "sigmoid", act,
    )  # fmt: skip
    return dx, dresidual, tuple(dtensors)
