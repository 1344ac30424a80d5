"""The engine's front door: a map, a head and its tensors in, the normalized map and its statistics out."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor

from fusednorm.heads import AnyHead, Context, ContextGate, Head

from . import context, native, plain, spatial, whole_context
from .backends import assumed_constant, choose
from .function import COMPOSED, Family, Spec, Tensors
from .synchronized import Peers


def normalize(
    x: Tensor,
    residual: Tensor | None,
    head: AnyHead,
    act: str | None,
    tensors: Tensors,
    group: Peers | None = None,
    halves: tuple[bool, bool] = (False, False),
    as_plain: bool = False,
) -> tuple[Tensor, Tensors]:
    """act(recalibrated(x) + residual), and the statistics of the head (standardize.py, recalibrate.py).

    Arguments have been checked; group and halves as in Spec. An empty x has no statistics: none are given. With a
    group there always are, and after them the number of samples that they are of. as_plain: in PyTorch's operations.
    """
    if x.numel() == 0 and group is None:
        return _empty(x, residual, tensors), ()
    watched = transformed()
    if group is not None:
        if watched:
            raise RuntimeError(
                "sync: expected no torch.func transform and no forward-mode differentiation, which know no exchange "
                "between processes, got one; set sync = False, or call in evaluation with running statistics"
            )
        if x.numel() == 0:
            x, residual, shape = _no_samples(x), None if residual is None else _no_samples(residual), x.shape
            spec = Spec(_of_planes(head, x), act or "identity", "torch", group, halves)
            y, statistics = _normalize(x, residual, spec, tensors, as_plain)
            return y.reshape(shape), statistics
    elif watched:
        y, found = plain.forward(x, residual, head, act or "identity", tensors)
        return y, _detached(found)
    return _normalize(x, residual, Spec(head, act or "identity", choose(x), group, halves), tensors, as_plain)


def _normalize(
    x: Tensor, residual: Tensor | None, spec: Spec, tensors: Tensors, as_plain: bool
) -> tuple[Tensor, Tensors]:
    head = spec.head
    # A function of the user's may hold parameters, which only autograd itself sees.
    if as_plain or written_down() or (isinstance(head, Head) and head.has_function):
        result, found = plain.with_statistics(x, residual, spec, tensors)
        return _like(result, x), _detached(found)
    inputs = (x, residual, *tensors)
    wants_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    family = _family(spec)
    y, statistics = family.apply(spec, *inputs) if wants_grad else family.run(spec, x, residual, tensors)
    return y, _taken(family, head, tensors, statistics)


def normalize_inplace(
    x: Tensor,
    residual: Tensor | None,
    head: AnyHead,
    act: str | None,
    tensors: Tensors,
    group: Peers | None = None,
    halves: tuple[bool, bool] = (False, False),
) -> Tensors:
    """normalize, written over x: the statistics. x may be written to (inplace.py), and nothing wants a gradient."""
    if x.numel() == 0:
        return () if group is None else normalize(x, residual, head, act, tensors, group, halves)[1]
    spec = Spec(head, act or "identity", choose(x), group, halves)
    if isinstance(head, Head) and head.has_function:
        y, found = plain.with_statistics(x, residual, spec, tensors)
        if y.requires_grad:  # of parameters that the function holds
            raise_wanted("a parameter of a function")
        x.copy_(y)
        return found
    family = _family(spec)
    statistics = family.inplace(spec, x, residual, tensors)
    if not torch.compiler.is_compiling():  # who saved x for backward shall know
        torch.autograd.graph.increment_version(x)
    return _taken(family, head, tensors, statistics)


def raise_wanted(what: str) -> NoReturn:
    """In place, and backward would need what has been written over."""
    raise RuntimeError(
        f"inplace: expected nothing that wants a gradient, for backward needs x as it was, got {what} that does; "
        "call under torch.no_grad(), or with inplace=False"
    )


_FAMILIES = {"planes": COMPOSED, "spatial": spatial.SPATIAL, "context": context.CONTEXT}


def _family(spec: Spec) -> Family:
    head = spec.head
    if native.covers(spec):
        return native.NATIVE
    if head.family == "planes" and isinstance(head, Head) and isinstance(head.recalibrate, ContextGate):
        return whole_context.GATE
    return _FAMILIES[head.family]


def _taken(family: Family, head: AnyHead, tensors: Tensors, statistics: Tensors) -> Tensors:
    """Of a family's statistics those that the head takes."""
    if family is not native.NATIVE:
        return statistics
    assert isinstance(head, Head)
    return tuple(statistics[i] for i in native.taken(head, tensors))


def _detached(found: Tensors) -> Tensors:
    return tuple(t if t is None else t.detach() for t in found)


def _no_samples(x: Tensor) -> Tensor:
    """An empty map as one of no samples, of planes that have positions."""
    return x if 0 not in x.shape[1:] else x.reshape(0, x.shape[1], *(1 for _ in x.shape[2:]))


def _of_planes(head: AnyHead, x: Tensor) -> AnyHead:
    """The head for x's planes: an embedding knows their shape."""
    if not (isinstance(head, Head) and isinstance(head.recalibrate, Context) and head.recalibrate.embedding):
        return head
    return replace(head, recalibrate=replace(head.recalibrate, embedding=tuple(x.shape[2:])))


def _like(y: Tensor, x: Tensor) -> Tensor:
    """y in x's layout."""
    y_like_x = torch.empty_like(x)
    return y if y.stride() == y_like_x.stride() else y_like_x.copy_(y)


def transformed() -> bool:
    """Whether torch.func's transforms or forward-mode differentiation are at work: neither knows the kernels."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def written_down() -> bool:
    """Whether the call is being written down for those who don't know the kernels: ONNX, TorchScript's tracer."""
    return torch.jit.is_tracing() or (torch.compiler.is_exporting() and _for_onnx())


@assumed_constant
def _for_onnx() -> bool:
    return torch.onnx.is_in_onnx_export()


def _empty(x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensor:
    """No values, but a place in the graph: every gradient is zero rather than missing."""
    y = torch.empty_like(x) + x
    for t in (residual, *tensors):
        if t is not None:
            y = y + (t.sum() * 0).to(x.dtype)
    return y
