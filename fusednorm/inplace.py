"""Whether y may be written over x: that nothing needs x as it was, and that every value has memory of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .engine.entry import raise_wanted, transformed


def check_inplace(x: Tensor, residual: Tensor | None, parameters: tuple[Tensor | None, ...]) -> None:
    """x and residual have been checked. A residual that shares memory with x, the compiler keeps in order by itself.

    Raises:
        RuntimeError: backward would need x as it was, or x can't be written to.
    """
    if transformed():
        raise RuntimeError("inplace: expected no torch.func transform and no forward-mode differentiation, got one")
    if torch.is_grad_enabled():
        for name, t in (("x", x), ("residual", residual), *(("a parameter", p) for p in parameters)):
            if t is not None and t.requires_grad:
                raise_wanted(name if t is x or t is residual else f"{name} of shape {tuple(t.shape)}")
    if x.numel() == 0:
        return
    compiling = torch.compiler.is_compiling()  # where strides may be symbols, which don't sort
    expanded = any(stride == 0 and size > 1 for size, stride in zip(x.shape, x.stride(), strict=True))
    if expanded or not (compiling or x.is_contiguous() or _disjoint(x)):
        raise RuntimeError(
            "inplace: expected an x each of whose values has memory of its own (so far as strides tell that each step "
            f"over all that the smaller ones reach), got shape {tuple(x.shape)} with strides {x.stride()}"
        )
    if compiling:
        return
    if x.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            "inplace: expected an x that may be written to, got an inference tensor outside of inference mode"
        )
    if residual is not None and _overlap(x, residual):
        raise RuntimeError(
            "inplace: expected a residual with memory of its own, or x's value for value, "
            f"got one that shares some with x (strides {residual.stride()} and {x.stride()})"
        )


def may_be(residual: Tensor, x: Tensor) -> bool:
    """Whether the checked residual is written over with x."""
    return torch.compiler.is_compiling() or residual.data_ptr() == x.data_ptr()


def _dimensions(x: Tensor) -> list[tuple[int, int]]:
    """Stride and size of each dimension of more than one value, the smallest stride first."""
    return sorted((stride, size) for size, stride in zip(x.shape, x.stride(), strict=True) if size > 1)


def _disjoint(x: Tensor) -> bool:
    """Whether each stride steps over all that the smaller ones reach, as slices, crops and transposed maps' do."""
    reach = 0
    for stride, size in _dimensions(x):
        if stride <= reach:
            return False
        reach += stride * (size - 1)
    return True


def _overlap(x: Tensor, residual: Tensor) -> bool:
    """Whether some value of the residual lies where another value of x, which is _disjoint, does."""
    distance = residual.data_ptr() - x.data_ptr()
    sizes = [size > 1 for size in x.shape]  # strides of others mean nothing
    alike = all(a == b for a, b, real in zip(x.stride(), residual.stride(), sizes, strict=True) if real)
    if distance == 0 and alike:
        return False
    itemsize, dimensions = x.element_size(), _dimensions(x)
    ends = [sum(stride * (size - 1) for stride, size in _dimensions(t)) * itemsize for t in (x, residual)]
    if distance > ends[0] or -distance > ends[1]:
        return False
    if not alike or distance % itemsize:  # not to be told apart
        return True
    return _within(distance // itemsize, dimensions)


def _within(distance: int, dimensions: list[tuple[int, int]]) -> bool:
    """Whether two values of a _disjoint map lie so far apart. (Halves of one buffer are interleaved, not shared.)"""
    if not dimensions:
        return distance == 0
    *inner, (stride, _) = dimensions
    size, steps = dimensions[-1][1], distance // stride
    return any(abs(step) < size and _within(distance - step * stride, inner) for step in (steps, steps + 1))
