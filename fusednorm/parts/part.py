"""What a part is, and how two of them make a layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusednorm import checks
from fusednorm.engine import Peers, normalize, normalize_inplace
from fusednorm.heads import Affine, Context, Head, Identity, UserHead
from fusednorm.inplace import check_inplace, may_be

Factor = float | Tensor


class Part(NamedTuple):
    """A standardization or recalibration of fusednorm.heads with its tensors.

    After a batch each tensor of `running` becomes (1 - momentum)*itself + momentum*statistic, and `counter` one more.
    group: of the processes whose samples its statistics are taken over.
    """

    head: Any
    tensors: tuple[Tensor | None, ...] = ()
    running: tuple[Tensor | None, ...] = ()
    momentum: Factor = 0.0
    counter: Tensor | None = None
    group: Peers | None = None

    def update(self, statistics: tuple[Tensor | None, ...], happened: Tensor | None = None) -> None:
        """In place. Neither side needs a gradient. happened: 0 where there was no batch, 1 where there was."""
        momentum = self.momentum if happened is None else self.momentum * happened
        for old, new in zip(self.running, statistics, strict=False):
            if old is not None and new is not None:
                checks.check_update(old, new)
                weight = momentum.to(old.dtype) if isinstance(momentum, Tensor) else momentum
                old.lerp_(new if new.dtype == old.dtype else new.to(old.dtype), weight)
        if self.counter is not None:
            self.counter.add_(1 if happened is None else happened.to(self.counter))


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
    head, group = Head(standardize.head, recalibrate.head), _common_group(standardize, recalibrate)
    halves = (standardize.group is not None, recalibrate.group is not None)
    if inplace:
        y, statistics = x, normalize_inplace(x, residual, head, act, tensors, group, halves)
    else:
        y, statistics = normalize(x, residual, head, act, tensors, group, halves, as_plain)
    happened = None
    if group is not None:  # of how many samples
        statistics, (seen,) = statistics[:-1], statistics[-1:]
        assert seen is not None
        happened = seen.clamp(max=1)
    for part, own in ((standardize, statistics[: head.updates]), (recalibrate, statistics[head.updates :])):
        if part.group is not None:
            part.update(own, happened)
        elif x.numel() > 0:
            part.update(own)
    return y


def _common_group(standardize: Part, recalibrate: Part) -> Peers | None:
    """The one process group of a layer's statistics: they go in one exchange."""
    first, second = standardize.group, recalibrate.group
    if first is not None and second is not None and first != second:
        raise ValueError(
            "process_group: expected one for standardization and recalibration, for their statistics are exchanged "
            f"together, got groups {first.name!r} and {second.name!r}"
        )
    return first or second


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
    return normalize(x, residual, head, act, tensors, as_plain=as_plain)[0]
