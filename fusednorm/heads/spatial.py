"""The N×C and N×S calculations of layers with statistics over channels at each position: fusednorm/engine/spatial.py.

x_hat = scale*(x - center) + shift + outer*t',   y = gain*x_hat*R(gate_weight*u + gate_bias) + bias
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .head import Head
from .planes import Planes, Restrict, inverse, position_statistic
from .samples import HERE, Pools

Tensors = tuple[Tensor | None, ...]


class Coefficients(NamedTuple):
    """N×C, what position_affine takes; absent ones are None."""

    scale: Tensor
    shift: Tensor
    outer: Tensor | None
    gain: Tensor
    bias: Tensor
    gate_weight: Tensor | None
    gate_bias: Tensor | None


def centres(head: Head) -> bool:
    return bool(getattr(head.standardize, "spatial", False))


def scales(head: Head) -> bool:
    return bool(getattr(head.recalibrate, "spatial", False))


def is_there(coefficient: str, head: Head) -> bool:
    """Whether a layer has it, by its name in Coefficients."""
    if coefficient == "outer":
        return centres(head)
    return scales(head) or not coefficient.startswith("gate")


def restrict_of(head: Head) -> Restrict:
    restrict: Restrict = head.recalibrate.restrict if scales(head) else "sigmoid"
    return restrict


def centring_row(head: Head, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """t' (N, S), and t's mean and variance over positions (N, 1)."""
    t = position_statistic(mean, var, head.standardize.center)
    level = t.mean(1, keepdim=True)
    row = t - level
    return row, level, row.square().mean(1, keepdim=True)


def centring_gradient(row: Tensor, drow: Tensor, dlevel: Tensor, dspread: Tensor) -> Tensor:
    """dt, of centring_row's three."""
    S = row.shape[1]
    return drow - drow.mean(1, keepdim=True) + dlevel / S + row * (dspread * (2 / S))


def coefficients(
    head: Head,
    center: Tensor,
    m: Tensor,
    v: Tensor,
    cov: Tensor | None,
    level: Tensor | None,
    t_var: Tensor | None,
    S: int,
    tensors: Tensors,
    pools: Pools = HERE,
) -> tuple[Coefficients, Tensors]:
    """The head's N×C calculation, and its statistics."""
    dtype = center.dtype
    cast = [None if t is None else t.to(dtype) for t in tensors]
    own, rest = cast[: head.standardize.tensors], cast[head.standardize.tensors :]
    spread = outer = None
    if cov is None:
        mu, var, statistics = head.standardize(m, v, S, *own, pool=pools[0])
    else:
        around = head.standardize.around_positions
        mu, var, spread, statistics = around(m, v, cov, level, t_var, S, *own, pool=pools[0])
    planes = Planes(m, v, mu, inverse(var, head.standardize.eps, dtype), S, spread, pools[1])
    scale, shift = planes.affine(center, None, None)
    if cov is not None:
        assert own[0] is not None
        outer = scale * own[0]
    gate_weight = gate_bias = None
    if scales(head):
        gain, bias, gate_weight, gate_bias = rest
        gate_weight, gate_bias = (t.expand_as(center) for t in (gate_weight, gate_bias) if t is not None)
    else:
        gain, bias, more = head.recalibrate(planes, *rest)
        statistics = statistics + more
    gain = torch.ones_like(center) if gain is None else gain.expand_as(center)
    bias = torch.zeros_like(center) if bias is None else bias.expand_as(center)
    return Coefficients(scale, shift, outer, gain, bias, gate_weight, gate_bias), statistics
