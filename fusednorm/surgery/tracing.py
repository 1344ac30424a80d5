"""Tracing a module's forward with torch.fx, without leaving a mark on the module."""

from __future__ import annotations

import copy
import random
import sys
from typing import Any

import torch
from torch import fx, nn

from .norms import CONVOLUTIONS, LAYERS, layers


class BlockTracer(fx.Tracer):
    """Sees normalizations, convolutions and all that has no normalization inside as one call."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*LAYERS, *CONVOLUTIONS)) or next(layers(m), None) is None


class OutlineTracer(BlockTracer):
    """Sees folded blocks as one call too."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, fx.GraphModule)


def trace(module: nn.Module, tracer: fx.Tracer | None = None) -> fx.Graph:
    """The graph of its forward in its present mode. The module's own code runs on a copy.

    Raises:
        Whatever that code raises for a stand-in of a tensor.
    """
    before = _random_state()
    try:
        return (tracer or BlockTracer()).trace(copied(module))
    finally:
        _set_random_state(before)


def trace_alike(module: nn.Module, tracer: type[fx.Tracer] = BlockTracer) -> fx.Graph:
    """The graph, where that is all that its forward does: the same in training and evaluation, and at every call.

    Raises:
        ValueError: it is not. Whatever its code raises for a stand-in of a tensor.
    """
    graphs, before = [], _random_state()
    try:
        for mode in (True, False):
            own = copied(module).train(mode)
            state = _attributes(own)
            graphs.append(tracer().trace(own))
            if _attributes(own) != state:
                raise ValueError("its forward stores something in the module")
            if not _same(_random_state(), before):
                raise ValueError("its forward draws random numbers in Python")
    finally:
        _set_random_state(before)
    if graphs[0].python_code("self").src != graphs[1].python_code("self").src:
        raise ValueError("its forward is another in training than in evaluation")
    return graphs[0]


def copied(module: nn.Module) -> nn.Module:
    """With the same parameters, and buffers of its own."""
    return copy.deepcopy(module, {id(p): p for p in module.parameters()})


def has_hooks(module: nn.Module) -> bool:
    """Whether anybody but torch looks at calls of it or of a module inside."""
    return any(
        not str(getattr(hook, "__module__", None) or type(hook).__module__).startswith("torch.")
        for m in module.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        for hook in getattr(m, kind).values()
    )


def _attributes(module: nn.Module) -> list[dict[str, int]]:
    """What is kept under which name, by identity."""
    return [
        {name: id(value) for name, value in vars(m).items() if not name.startswith("_") or "constant" in name}
        | {name: id(value) for name, value in m._buffers.items()}
        for m in module.modules()
    ]


def _random_state() -> tuple[Any, ...]:
    numpy: Any = sys.modules.get("numpy")
    return torch.random.get_rng_state(), random.getstate(), None if numpy is None else numpy.random.get_state()


def _set_random_state(state: tuple[Any, ...]) -> None:
    ours, python, numpys = state
    torch.random.set_rng_state(ours)
    random.setstate(python)
    if numpys is not None:
        sys.modules["numpy"].random.set_state(numpys)


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    numpys = a[2] is None or b[2] is None or (a[2][2:] == b[2][2:] and bool((a[2][1] == b[2][1]).all()))
    return torch.equal(a[0], b[0]) and a[1] == b[1] and numpys
