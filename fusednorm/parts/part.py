"""What a part is, and how two of them make a layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusednorm import checks
from fusednorm.engine import normalize, normalize_inplace
from fusednorm.heads import Affine, Context, Head, Identity, UserHead
from fusednorm.inplace import check_inplace, may_be

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
                checks.check_update(old, new)
                weight = self.momentum.to(old.dtype) if isinstance(self.momentum, Tensor) else self.momentum
                old.lerp_(new if new.dtype == old.dtype else new.to(old.dtype), weight)
        if self.counter is not None:
            self.counter.add_(1)


def run(
    x: Tensor,
    standardize: Part,
    recalibrate: Part,
    residual: Tensor | None,
    act: str | None,
    inplace: bool = False,
    as_plain: bool = False,
) -> Tensor:
    """act(recalibrated(standardized(x)) + residual), x checked. An empty batch changes no statistics.

    as_plain: of plain PyTorch's operations, where no gradient would come through the kernels' (engine.normalize).
    """
    checks.check_residual(residual, x)
    checks.check_act(act)
    tensors = standardize.tensors + recalibrate.tensors
    if inplace:
        check_inplace(x, residual, tensors)
    if isinstance(recalibrate.head, Context) and getattr(standardize.head, "spatial", False):
        # Both look over positions: one after the other.
        weight, bias, *rest = recalibrate.tensors
        if inplace and residual is not None and may_be(residual, x):
            residual = residual.clone()  # the second layer adds it
        z = run(x, standardize, Part(Affine(), (weight, bias)), None, None, inplace, as_plain)
        return run(z, Part(Identity()), Part(recalibrate.head, (None, None, *rest)), residual, act, inplace, as_plain)
    head = Head(standardize.head, recalibrate.head)
    if inplace:
        y, statistics = x, normalize_inplace(x, residual, head, act, tensors)
    else:
        y, statistics = normalize(x, residual, head, act, tensors, as_plain)
    if x.numel() > 0:
        standardize.update(statistics[: head.updates])
        recalibrate.update(statistics[head.updates :])
    return y


def run_head(
    x: Tensor,
    head: UserHead,
    tensors: tuple[Tensor | None, ...],
    residual: Tensor | None,
    act: str | None,
    inplace: bool = False,
) -> Tensor:
    """act(scale*x + shift + residual) with a user's head, x checked."""
    checks.check_residual(residual, x)
    checks.check_act(act)
    if inplace:
        check_inplace(x, residual, tensors)
        normalize_inplace(x, residual, head, act, tensors)
        return x
    # Exported to be trained, as far as can be seen: no gradient comes through exported kernels.
    as_plain = torch.compiler.is_exporting() and getattr(head.function, "training", True)
    return normalize(x, residual, head, act, tensors, as_plain)[0]
