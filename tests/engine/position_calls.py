"""Calls of the position kernels with random arguments, for the tests of every backend."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusednorm.engine import joint
from fusednorm.engine.activations import NAMES as ACTS
from fusednorm.engine.layout import compute_dtype, positions
from fusednorm.engine.position_kernels import KINDS
from fusednorm.engine.position_operators import SCHEMAS
from fusednorm.heads.planes import POSITION_STATISTICS, RESTRICTIONS

Call = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Options:
    """What is there, and which functions; `turn` varies the rest: strides, numbers of rows, what is asked for."""

    with_t: bool = True
    with_u: bool = True
    residual: bool = True
    act: str = "relu"
    kind: str = "abs"
    restrict: str = "sigmoid"
    turn: int = 0


def all_options() -> list[Options]:
    """Every presence with every activation; kinds and restricts take turns."""
    combinations = itertools.product((False, True), (False, True), (False, True), ACTS)
    return [
        Options(*there, list(KINDS)[i % 3], RESTRICTIONS[i // 3 % 3], turn=i) for i, there in enumerate(combinations)
    ]


def some_options() -> list[Options]:
    """A few, with everything there and with nothing."""
    return [
        Options(False, False, False, "identity", "sum", turn=0),
        Options(True, False, False, "relu", "abs", turn=1),
        Options(False, True, True, "silu", "square", "tanh", turn=2),
        Options(True, True, True, "relu", "abs", "hsigmoid", turn=3),
    ]


def calls(x: Tensor, dy: Tensor, residual: Tensor, o: Options, backend: str) -> Iterator[Call]:
    """One call of each of a backend's operators; of those that are two in one, as joint.py's functions take them."""
    (N, C), S, dtype, turn = x.shape[:2], positions(x), compute_dtype(x), o.turn

    def planes(*lead: int) -> Tensor:
        if turn % 3 == 0:
            return torch.randn(*lead, 1, C, dtype=dtype).expand(*lead, N, C)
        return torch.randn(*lead, C, N, dtype=dtype).mT if turn % 3 == 1 else torch.randn(*lead, N, C, dtype=dtype)

    def rows(*lead: int) -> Tensor:
        return torch.randn(*lead, N, S, dtype=dtype)

    kept = residual if o.residual else None
    center, scale, shift, gain, bias = (planes() for _ in range(5))
    outer, t = (planes(), rows()) if o.with_t else (None, None)
    gate = (planes(), planes(), rows()) if o.with_u else (None, None, None)
    yield "position_reduce", (x, center, planes(), o.kind)
    yield "plane_pool", (x, center, rows(), o.kind)
    yield "position_moments", (x, center, scale, shift, outer, t)
    affine = (x, center, scale, shift, outer, t, gain, bias, *gate, kept)
    yield "position_affine", (*affine, o.restrict, o.act)
    slopes = (rows(), rows()) if turn % 4 < 2 else (None, None)
    backward, functions = (dy, *affine, *slopes), (o.restrict, o.act)
    write_g = turn % 5 < 3
    yield "position_affine_reduce", (*backward, *functions, write_g)
    yield "position_affine_spread", (*backward, planes() if turn % 2 else None, *functions, write_g)
    if o.with_u and joint.blocks("position_affine_spread_reduce", backend, x, kept):
        yield "position_affine_spread_reduce", (dy, *affine, rows(), rows(), *functions, write_g)
    statistic = POSITION_STATISTICS[turn % 2]
    if o.with_u and joint.blocks("position_moments_affine", backend, x, kept):
        yield "position_moments_affine", (*affine[:10], kept, statistic, *functions)
    if joint.blocks("position_moments_pool", backend, x, None):
        yield "position_moments_pool", (x, center, statistic)
    count = turn % 4
    more = (planes(), planes()) if turn % 2 else (None, None)
    outers = (planes(count), rows(count)) if count else (None, None)
    weighted = (planes(), rows()) if turn % 3 else (None, None)
    yield "position_affine_grad", (*backward, *more, *outers, *weighted, o.kind, *functions)


def results(backend: str, call: Call) -> tuple[Tensor, ...]:
    """What an operator returns, always as a tuple."""
    name, args = call
    # Where a backend has no such operator, of its two.
    if name == "position_affine_spread_reduce":
        return joint.spread_reduce(backend, *args[:2], args[2:12], *args[12:])
    if name == "position_moments_affine":
        return joint.moments_affine(backend, args[0], args[1:10], *args[10:])
    if name == "position_moments_pool":
        return joint.moments_pool(backend, *args)
    assert name in SCHEMAS
    found = getattr(getattr(torch.ops.fusednorm, name), backend)(*args)
    return (found,) if isinstance(found, Tensor) else tuple(found)


def exact(call: Call) -> tuple[Tensor, ...]:
    """The same in float64, from the same numbers."""
    name, args = call
    return results("torch", (name, tuple(a.double() if isinstance(a, Tensor) else a for a in args)))
