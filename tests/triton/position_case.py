"""Arguments of the kernels that know a value per position, and what those should return: the `torch` backend's
functions (fusednorm/engine/position_kernels.py) on all of them in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusednorm import triton_kernels
from fusednorm.engine import position_kernels

from .maps import MAPS, normal, per_plane
from .truth import ROUNDING, SUMS, close

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
KINDS = ("sum", "abs", "square")
RESTRICTIONS = ("sigmoid", "tanh", "hsigmoid")
EMPTY = [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4), (0, 5)]
BIG = ("planar one large plane", "channels_last long")
BOTH = ("planar", "channels_last")


class Case(NamedTuple):
    """What a kernel takes after dy and x, up to the gate's u; and the backward kernels' e_offset and e_slope."""

    forward: tuple[Tensor | None, ...]
    e: tuple[Tensor | None, ...]


def make(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return MAPS[name](normal(dtype, seed))


def rows(x: Tensor, count: int, seed: int = 20) -> list[Tensor]:
    """N x S tensors."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    random = normal(dtype, seed, mean=0.2, std=0.8)
    return [random(x.shape[0], x.shape[2:].numel()) for _ in range(count)]


def case(x: Tensor, options: str = "tue", seed: int = 9) -> Case:
    """options: t, with what it is multiplied by; u, with its gate; e: e_offset and e_slope."""
    kinds = ("full", "samples", "strided", "channels", "full", "samples", "strided", "full")
    center, scale, shift, outer, gain, bias, gate_weight, gate_bias = per_plane(x, *kinds, seed=seed)
    t, u, e_offset, e_slope = rows(x, 4)
    given = (
        *(center, scale, shift),
        *((outer, t) if "t" in options else (None, None)),
        *(gain, bias),
        *((gate_weight, gate_bias, u) if "u" in options else (None, None, None)),
    )
    return Case(given, (e_offset, e_slope) if "e" in options else (None, None))


def run(kernel: str, *args: Any) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """What the kernel returns, and what it should return."""
    found = getattr(triton_kernels, kernel)(*args)
    exact = [t.double() if isinstance(t, Tensor) else t for t in args]
    expected = getattr(position_kernels, kernel)(*exact)
    return (found, expected) if isinstance(found, tuple) else ((found,), (expected,))


def check_map(found: Tensor, expected: Tensor, x: Tensor, atol: float = 8.0) -> None:
    """A map like x. `atol`: how much larger than 1 its terms may be."""
    assert found.dtype == x.dtype
    assert found.stride() == torch.empty_like(x).stride()
    close(found, expected, 2 * ROUNDING[x.dtype], atol=atol * min(ROUNDING[x.dtype], 1e-6))


def check_sums(found: Tensor, expected: Tensor, x: Tensor, terms: int) -> None:
    """Sums of so many terms, in the compute type."""
    assert found.shape == expected.shape
    assert found.dtype == (torch.float64 if x.dtype == torch.float64 else torch.float32)
    close(found, expected, SUMS[x.dtype] * max(1, terms) ** 0.5)
