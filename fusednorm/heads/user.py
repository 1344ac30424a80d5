"""A user's head in place of a standardization and a recalibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .planes import Statistics
from .samples import HERE, Pools


@dataclass(frozen=True)
class UserHead:
    """y = act(scale*x + shift + residual) with (scale, shift) = function(mean, var), all (N, C) in the compute type.

    `function` is an nn.Module, whose parameters and, after them, buffers are the head's tensors, in the order of
    `names`, or any function, which takes them after mean and var. Backward calls it again: mean, var and buffers are
    lent as copies.
    """

    function: Callable[..., Any]
    names: tuple[str, ...] | None = None
    parameters: int = 0

    @property
    def needs_moments(self) -> bool:
        return True

    @property
    def family(self) -> str:
        return "planes"

    @property
    def updates(self) -> int:
        return 0

    def pivot(self, tensors: tuple[Tensor | None, ...]) -> None:
        return None

    def __call__(
        self, center: Tensor, m: Tensor, v: Tensor, positions: int, *tensors: Tensor | None, pools: Pools = HERE
    ) -> tuple[Tensor, Tensor, Statistics]:
        mean, var = m.to(v.dtype, copy=True), v.clone()  # lent: a head may write to its own
        given = [t for t in tensors if t is not None]
        cast = [t.to(v.dtype) if t.is_floating_point() else t for t in given]
        if self.names is None:
            found = self.function(mean, var, *cast)
        else:
            assert isinstance(self.function, nn.Module)
            lent = [*cast[: self.parameters], *(t.clone() for t in cast[self.parameters :])]
            state = dict(zip(self.names, lent, strict=True))
            found = torch.func.functional_call(self.function, state, (mean, var))
        scale, shift = scale_and_shift(found, center.shape)
        scale, shift = (t.to(center.dtype).expand_as(center) for t in (scale, shift))
        return scale, shift + scale * center, ()


def scale_and_shift(found: object, planes: torch.Size) -> tuple[Tensor, Tensor]:
    """What a user's head returned, checked: real tensors that broadcast to the planes (N, C)."""
    if not isinstance(found, tuple) or len(found) != 2 or not all(isinstance(t, Tensor) for t in found):
        raise TypeError(f"head: expected it to return a tuple (scale, shift) of tensors, got {_kinds(found)}")
    scale, shift = found
    _check_result("scale", scale, planes)
    _check_result("shift", shift, planes)
    return scale, shift


def _check_result(name: str, t: Tensor, planes: torch.Size) -> None:
    if t.is_complex():
        raise TypeError(f"head: expected {name} to be real, got {str(t.dtype).removeprefix('torch.')}")
    ends = zip(reversed(t.shape), reversed(planes), strict=False)
    if t.dim() > 2 or any(ours != 1 and ours != theirs for ours, theirs in ends):
        raise ValueError(f"head: expected {name} to broadcast to {tuple(planes)}, got shape {tuple(t.shape)}")


def _kinds(found: object) -> str:
    if isinstance(found, tuple):
        return f"({', '.join(type(t).__name__ for t in found)})"
    return type(found).__name__
