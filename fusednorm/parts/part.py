"""What a part is, and how two of them make a layer."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from fusednorm import checks
from fusednorm.engine import normalize
from fusednorm.heads import Affine, Context, Head, Identity, UserHead

Factor = float | Tensor


class Part(NamedTuple):
    """A standardization or recalibration of fusednorm.heads with its tensors.

    After a batch each tensor of `running` becomes (1 - momentum)*itself + momentum*statistic, and `counter` one more.
    """

    head: Any
    tensors: tuple[Tensor | None, ...] = ()
    running: tuple[Tensor | None, ...] = ()
    momentum: Factor = 0.0
    counter: Tensor | None = None

    def update(self, statistics: tuple[Tensor | None, ...]) -> None:
        """In place. Neither side needs a gradient."""
        for old, new in zip(self.running, statistics, strict=False):
            if old is not None and new is not None:
                weight = self.momentum.to(old.dtype) if isinstance(self.momentum, Tensor) else self.momentum
                old.lerp_(new if new.dtype == old.dtype else new.to(old.dtype), weight)
        if self.counter is not None:
            self.counter.add_(1)


def run(x: Tensor, standardize: Part, recalibrate: Part, residual: Tensor | None, act: str | None) -> Tensor:
    """act(recalibrated(standardized(x)) + residual), x checked. An empty batch changes no statistics."""
    checks.check_residual(residual, x)
    checks.check_act(act)
    if isinstance(recalibrate.head, Context) and getattr(standardize.head, "spatial", False):
        # Both look over positions: one after the other.
        weight, bias, *rest = recalibrate.tensors
        x = run(x, standardize, Part(Affine(), (weight, bias)), None, None)
        return run(x, Part(Identity()), Part(recalibrate.head, (None, None, *rest)), residual, act)
    head = Head(standardize.head, recalibrate.head)
    y, statistics = normalize(x, residual, head, act, standardize.tensors + recalibrate.tensors)
    if x.numel() > 0:
        standardize.update(statistics[: head.updates])
        recalibrate.update(statistics[head.updates :])
    return y


def run_head(
    x: Tensor, head: UserHead, tensors: tuple[Tensor | None, ...], residual: Tensor | None, act: str | None
) -> Tensor:
    """act(scale*x + shift + residual) with a user's head, x checked."""
    checks.check_residual(residual, x)
    checks.check_act(act)
    return normalize(x, residual, head, act, tensors)[0]
