"""A user's head in place of a standardization and a recalibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .planes import Statistics


@dataclass(frozen=True)
class UserHead:
    """y = act(scale*x + shift + residual) with (scale, shift) = function(mean, var), all (N, C) in the compute type.

    `function` is an nn.Module, whose parameters and, after them, buffers are the head's tensors, in the order of
    `names`, or any function, which takes them after mean and var. Backward calls it again: buffers are lent as copies.
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
        self, center: Tensor, m: Tensor, v: Tensor, positions: int, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor, Statistics]:
        mean = m.to(v.dtype)
        given = [t for t in tensors if t is not None]
        cast = [t.to(v.dtype) if t.is_floating_point() else t for t in given]
        if self.names is None:
            scale, shift = self.function(mean, v, *cast)
        else:
            assert isinstance(self.function, nn.Module)
            lent = [*cast[: self.parameters], *(t.clone() for t in cast[self.parameters :])]
            state = dict(zip(self.names, lent, strict=True))
            scale, shift = torch.func.functional_call(self.function, state, (mean, v))
        scale, shift = (t.to(center.dtype).expand_as(center) for t in (scale, shift))
        return scale, shift + scale * center, ()
