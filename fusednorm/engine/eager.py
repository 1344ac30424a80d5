"""Layers' calls in eager mode without Python in between (csrc/eager): recorded once with all checks, then replayed."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fusednorm.heads import Head

from . import native, plain
from .activations import MASKED
from .backends import choose, tell_choice
from .function import Spec, Tensors
from .operators import LAYER_GRADIENTS

if TYPE_CHECKING:
    from fusednorm.parts import Part

# Not built, or for another version of torch: Python serves.
try:
    _eager: Any = importlib.import_module("fusednorm._eager")
    STATE = "recorded once, then replayed natively"
except ImportError as error:
    _eager = None
    STATE = f"all through Python, which costs small maps time: {error}"


def new_replay() -> Any:
    """What records a module's calls: replay(module, x, residual) is y, False if it has yet to be, None if it can't."""
    return None if _eager is None else _eager.Replay()


def record(
    replay: Any, module: torch.nn.Module, x: Tensor, act: str | None, standardize: Part, recalibrate: Part
) -> bool:
    """After a call: that it may be replayed as long as nothing about it has changed. False if this can't be known."""
    if any(getattr(m, "sync", False) for m in module.modules()):  # by Python, for as long as it is; replayed after
        return True
    if not type(module).__module__.startswith("fusednorm."):  # a user's subclass may do otherwise each time
        return False
    head = Head(standardize.head, recalibrate.head)
    spec = Spec(head, act or "identity", choose(x))
    if not native.covers(spec):
        return False
    averages, counters = [], []
    taken = native.taken(head, standardize.tensors + recalibrate.tensors)
    names = iter(taken)
    for part, count in ((standardize, head.updates), (recalibrate, len(taken) - head.updates)):
        statistics = [next(names) for _ in range(count)]
        if isinstance(part.momentum, Tensor):
            return False
        averages += [
            (number, t, part.momentum) for number, t in zip(statistics, part.running, strict=False) if t is not None
        ]
        counters += [part.counter] if part.counter is not None else []
    try:
        call = _eager.Recorded(
            module, _kind(spec), x, list(standardize.tensors + recalibrate.tensors), averages, counters
        )
    except ValueError:  # tensors that are not its own, options that may change unnoticed
        return False
    replay.add(call)
    return True


_specs: list[Spec] = []


@functools.cache
def _kind(spec: Spec) -> Any:
    assert isinstance(spec.head, Head)
    places, scalars = native.plan(spec.head)
    gradients = [LAYER_GRADIENTS.index(n) if n in LAYER_GRADIENTS else -1 for n in native.names(spec.head)]
    _specs.append(spec)
    return _eager.Kind(spec.backend, places, gradients, scalars, spec.act, spec.act in MASKED, len(_specs) - 1)


def _differentiable_backward(
    number: int,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    has_residual: bool,
    tensors: Tensors,
    needed: tuple[bool, ...],
) -> Tensors:
    """The gradients by plain PyTorch, for gradients of them."""
    spec = _specs[number]
    grads = plain.backward(dy, x, residual, mask, spec.head, spec.act, tensors, needed)
    return (grads[0], dy, *grads[2:]) if has_residual and spec.act == "identity" and needed[1] else grads


if _eager is not None:
    _eager.differentiate_by(_differentiable_backward)
    tell_choice(_eager.force)
