"""The engine's front door: a map, a head and its tensors in, the normalized map and its statistics out."""

from __future__ import annotations

import torch
from torch import Tensor

from fusednorm.heads import AnyHead, ContextGate, Head

from . import context, native, plain, spatial, whole_context
from .backends import choose
from .function import COMPOSED, Family, Spec, Tensors


def normalize(
    x: Tensor, residual: Tensor | None, head: AnyHead, act: str | None, tensors: Tensors
) -> tuple[Tensor, Tensors]:
    """act(recalibrated(x) + residual), and the statistics of the head (standardize.py, recalibrate.py).

    Arguments have been checked. An empty x has no statistics: none are given.
    """
    if x.numel() == 0:
        return _empty(x, residual, tensors), ()
    watched = transformed()
    # A function of the user's may hold parameters, which only autograd itself sees.
    if watched or (isinstance(head, Head) and head.has_function):
        result, found = plain.forward(x, residual, head, act or "identity", tensors)
        return result if watched else _like(result, x), tuple(t if t is None else t.detach() for t in found)
    spec = Spec(head, act or "identity", choose(x))
    inputs = (x, residual, *tensors)
    wants_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    covered = native.covers(spec)
    family = native.NATIVE if covered else _family(head)
    y, statistics = family.apply(spec, *inputs) if wants_grad else family.run(spec, x, residual, tensors)
    if covered:
        assert isinstance(head, Head)
        statistics = tuple(statistics[i] for i in native.taken(head, tensors))
    return y, statistics


_FAMILIES = {"planes": COMPOSED, "spatial": spatial.SPATIAL, "context": context.CONTEXT}


def _family(head: AnyHead) -> Family:
    if head.family == "planes" and isinstance(head, Head) and isinstance(head.recalibrate, ContextGate):
        return whole_context.GATE
    return _FAMILIES[head.family]


def _like(y: Tensor, x: Tensor) -> Tensor:
    """y in x's layout."""
    y_like_x = torch.empty_like(x)
    return y if y.stride() == y_like_x.stride() else y_like_x.copy_(y)


def transformed() -> bool:
    """Whether torch.func's transforms or forward-mode differentiation are at work: neither knows the kernels."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def _empty(x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensor:
    """No values, but a place in the graph: every gradient is zero rather than missing."""
    y = torch.empty_like(x) + x
    for t in (residual, *tensors):
        if t is not None:
            y = y + (t.sum() * 0).to(x.dtype)
    return y
