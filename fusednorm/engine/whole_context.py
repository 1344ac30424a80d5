"""The Normalization-Attention module as one operator a direction: where a GPU keeps a sample on the chip, in 2 units of
traffic and 3 (csrc/cuda/context.h), and on the CPU, in as many as context.py (csrc/cpu/context.cpp).

It is for maps whose standardization, if there is one, is known beforehand. Forward keeps what the steps of context.py
keep, so that either way there goes with either way back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusednorm.heads import Context, ContextGate, Head, Identity, Running

from . import resident
from .backends import kernel
from .calculation import vjp
from .function import Spec, Tensors, composed_backward, composed_forward, composed_inplace, family
from .layout import compute_dtype


def blocks(spec: Spec, x: Tensor, others: tuple[Tensor | None, ...], maps: int) -> int:
    """How many blocks keep a sample, on the CPU 1; 0 where there is no such operator for it. others: what is read
    beside x; maps: how many are kept."""
    head = spec.head
    if spec.backend not in ("cpu", "cuda") or not isinstance(head, Head):
        return 0
    if not isinstance(head.standardize, Identity | Running) or getattr(head.recalibrate, "embedding", None) is not None:
        return 0
    if spec.backend == "cpu":
        return 1
    return resident.blocks(x, others, resident.Room(maps, maps, 10))  # csrc/cuda/context.h


def backward_blocks(spec: Spec, x: Tensor, residual: Tensor | None, needs: list[bool]) -> int:
    """Likewise for the way back. dy may have any strides, which the compiler could not tell; gradients of running
    statistics are for the streaming kernels."""
    head = spec.head
    if not isinstance(head, Head) or any(needs[: head.standardize.tensors]):
        return 0
    return blocks(spec, x, (residual,), maps=2)


def _constants(
    head: Head, tensors: Tensors, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor] | tuple[None, None, None]:
    """mu, scale and shift (C), of the compute type, of z = scale*(x - mu) + shift; None where z is x itself."""
    own = head.standardize.tensors
    weight, bias = (None if t is None else t.to(dtype) for t in tensors[own : own + 2])
    if isinstance(head.standardize, Running):
        mu, var = (t.to(dtype) for t in tensors[:own] if t is not None)
        inv = torch.rsqrt(var + head.standardize.eps)
        scale = inv if weight is None else inv * weight
        return mu, scale, torch.zeros_like(mu) if bias is None else bias
    some = weight if weight is not None else bias
    if some is None:
        return None, None, None
    scale = torch.ones_like(some) if weight is None else weight
    return torch.zeros_like(some), scale, torch.zeros_like(some) if bias is None else bias


def _layer(spec: Spec, tensors: Tensors, dtype: torch.dtype) -> tuple[Any, ...]:
    """The layer's arguments in the order of the operators' schemas."""
    assert isinstance(spec.head, Head)
    then: Context | ContextGate = spec.head.recalibrate
    similarity = then.similarity if isinstance(then, Context) else "none"
    gain, offset = (t.to(dtype) for t in tensors[-2:] if t is not None)
    constants = (t if t is None else t.contiguous() for t in _constants(spec.head, tensors, dtype))
    return (*constants, gain, offset, similarity, then.unbiased, then.eps, spec.act)


def forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool, count: int
) -> tuple[Tensor, ...]:
    """y, mask, mean, var, scale, shift, t, p, pooled; the standardizations it is for have no statistics."""
    layer = _layer(spec, tensors, compute_dtype(x))
    found: tuple[Tensor, ...] = kernel("context_forward", spec.backend)(x, residual, *layer, save_mask, count)
    return found


def inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, count: int) -> Tensors:
    """y over x; no statistics."""
    layer = _layer(spec, tensors, compute_dtype(x))
    kernel("context_forward_inplace", spec.backend)(x, residual, *layer, count)
    return ()


def backward(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    kept: tuple[Tensor | None, ...],
    tensors: Tensors,
    needs_dresidual: bool,
    needs: list[bool],
    count: int,
) -> tuple[Tensor, Tensor | None, Tensors]:
    """dx, dresidual and the gradients of the head's tensors. kept: mean, t, p, pooled (None without a similarity)."""
    head = spec.head
    assert isinstance(head, Head)
    write_g = needs_dresidual and spec.act != "identity"
    dx, g, dscale, dshift, dgate = kernel("context_backward", spec.backend)(
        dy, x, residual, mask, *kept, *_layer(spec, tensors, compute_dtype(x)), write_g, count
    )
    found: list[Tensor | None] = [None] * len(tensors)
    affine = [i for i in range(len(tensors) - 2) if needs[i]]
    if affine:

        def scale_and_shift(*moving: Tensor) -> tuple[Tensor, Tensor]:
            moved = list(tensors)
            for i, t in zip(affine, moving, strict=True):
                moved[i] = t
            _, scale, shift = _constants(head, tuple(moved), compute_dtype(x))
            assert scale is not None
            assert shift is not None
            return scale, shift

        _, pull_back = vjp(scale_and_shift, *[tensors[i] for i in affine])
        for i, t in zip(affine, pull_back((dscale.sum(0), dshift.sum(0))), strict=True):
            found[i] = t
    for i, (t, gradient) in enumerate(zip(tensors[-2:], dgate.sum(1, keepdim=True), strict=True), len(tensors) - 2):
        found[i] = gradient.to(t.dtype) if needs[i] and t is not None else None
    dresidual = None if not needs_dresidual else g if write_g else dy
    return dx, dresidual, tuple(found)


def gate_forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool
) -> tuple[Tensor, ...]:
    """y, mask, mean, var, scale, shift: as composed_forward, for the module without a similarity."""
    if count := blocks(spec, x, (residual,), maps=1):
        return forward(spec, x, residual, tensors, save_mask, count)[:6]
    return composed_forward(spec, x, residual, tensors, save_mask)


def gate_inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensors:
    if count := blocks(spec, x, (residual,), maps=1):
        return inplace(spec, x, residual, tensors, count)
    return composed_inplace(spec, x, residual, tensors)


def gate_backward(
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
    if count := backward_blocks(spec, x, residual, needs):
        kept = (outputs[0], None, None, None)
        dx, dresidual, dtensors = backward(spec, dy, x, residual, mask, kept, tensors, needs_dresidual, needs, count)
        return dx if needs_dx else None, dresidual, dtensors
    return composed_backward(spec, dy, x, residual, mask, outputs, tensors, needs_dx, needs_dresidual, needs)


# The module without a similarity: on the chip where that serves it.
GATE = family("ContextGateNorm", gate_forward, gate_inplace, gate_backward, 6)
