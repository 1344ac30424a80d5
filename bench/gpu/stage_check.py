"""A quick gate before the timings: every layer, type and layout three ways, as the tests compare them.

The fused layer and the same layer in plain PyTorch in the same type, both against plain PyTorch in float64.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from bench.names import LAYOUTS

from .setting import Setting

shared: Any = importlib.import_module("tests.cases")  # by name: type checkers look at the tests otherwise

TYPES = ("float32", "bfloat16", "float16", "float64")
SHAPES = ((8, 64, 28, 28), (5, 33, 7, 13))  # whole vectors, and none
DRAWS = 2


@dataclass(frozen=True)
class Case:
    backend: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    layer: str
    training: bool

    def __str__(self) -> str:
        mode = "training" if self.training else "evaluation"
        shape = "x".join(map(str, self.shape))
        return f"{self.backend} {self.layer} {mode} {shape} {self.dtype} {self.layout}"


def cases(backends: list[str], dry: bool, quick: bool) -> list[Case]:
    """The fastest backend first; the others, which compile kernels as they go, on one shape; further layers last."""
    if dry:
        return [
            Case(b, SHAPES[1], "float32", layout, layer, True)
            for b, layout, layer in product(backends, LAYOUTS, (*shared.LAYERS, *shared.FAMILIES))
        ]
    found = [
        Case(backend, shape, dtype, layout, layer, training)
        for number, backend in enumerate(backends)
        for shape in (SHAPES if number == 0 and not quick else SHAPES[:1])
        for dtype, layout, layer, training in product(TYPES, LAYOUTS, shared.LAYERS, (True, False))
    ]
    return found + [
        Case(backend, SHAPES[0], dtype, layout, layer, True)
        for backend, dtype, layout, layer in product(backends, TYPES[:2], LAYOUTS, shared.FURTHER)
        if backend != "torch"
    ]


def run(setting: Setting) -> None:
    torch.manual_seed(0)
    setting.each(cases(setting.backends(), setting.dry, setting.quick), lambda case: check(setting, case))


def check(setting: Setting, case: Case) -> None:
    dtype = getattr(torch, case.dtype)
    fused, plain = shared.pair(case.layer, len(case.shape), case.shape[1], act="relu")
    draws = shared.three_ways(
        case.backend,
        fused,
        plain,
        lambda: shared.laid_out(shared.maps_like(*case.shape), case.layout),
        dtype,
        training=case.training,
        draws=DRAWS,
        device=setting.device,
    )
    problem = None
    try:
        shared.assert_twice_as_good(draws, dtype)
    except AssertionError as error:
        problem = str(error)
    setting.write(kind="check", **vars(case), ok=problem is None, problem=problem, **worst(draws))


def worst(draws: list[tuple[Any, Any, Any]]) -> dict[str, Any]:
    """The tensor whose error is largest relative to its largest entry: its name, our errors, and plain PyTorch's."""
    found: dict[str, Any] = {"tensor": "", "max": -1.0}
    for name in draws[0][2].tensors:
        ours, theirs, exact = (
            torch.cat([draw[i].tensors[name].double().flatten() for draw in draws]) for i in range(3)
        )
        largest = exact.abs().max().clamp_min(1e-300)
        error, plain = (ours - exact) / largest, (theirs - exact) / largest
        largest_error = error.abs().max().item()
        if not largest_error <= found["max"]:  # NaN is the worst of all
            found = {"tensor": name, "max": largest_error, "rms": error.square().mean().sqrt().item()}
            found |= {"plain_max": plain.abs().max().item(), "plain_rms": plain.square().mean().sqrt().item()}
            if largest_error != largest_error:
                return found
    return found
