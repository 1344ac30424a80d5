"""Recalibrations: the affine map after a standardization, Gamma and Beta, broadcastable to (N, C).

Each takes what it may look at (planes.py) and its tensors, and gives Gamma, Beta (None: 1 and 0) and the statistics
that running averages are made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .planes import Planes, Statistics
from .samples import Pool

ATTENTION_INPUTS = ("mean", "mean_std", "rsd")
ATTENTION_ACTS = ("relu", "sigmoid", "softmax", "hsigmoid")


def attention_norm_eps() -> float:
    """A literal: a module's number would be an input of the compiler's graphs with dynamic shapes, for every layer the
    same one, and nested graphs can't share inputs."""
    return 1e-5


@dataclass(frozen=True)
class Affine:
    """Gamma = weight, Beta = bias: one of each a channel, as in BN and GN. Without them 1 and 0."""

    tensors: ClassVar[int] = 2
    needs_moments: ClassVar[bool] = False

    def __call__(
        self, planes: Planes, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Statistics]:
        return (None if weight is None else weight[None]), (None if bias is None else bias[None]), ()


@dataclass(frozen=True)
class Attentive:
    """Gamma = lambda weight, Beta = lambda bias (AN eqs. 8-9) with lambda = Act(fc(s)) or Act(BN(fc(s))) (eq. 11).

    s is the plane's mean, mean and std, or mean/std; std = sqrt(S/(S-1) v + eps), and sqrt(eps) for planes of one
    position. The BN is there when its tensors are, and takes the batch's statistics when it is given no running ones.
    """

    input: str = "rsd"
    act: str = "hsigmoid"
    eps: float = 1e-3
    tensors: ClassVar[int] = 8
    needs_moments: ClassVar[bool] = True

    def __call__(
        self,
        planes: Planes,
        weight: Tensor,
        bias: Tensor,
        fc_weight: Tensor,
        fc_bias: Tensor | None,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        norm_mean: Tensor | None,
        norm_var: Tensor | None,
    ) -> tuple[Tensor, Tensor, Statistics]:
        weights, statistics = self.attention(planes, fc_weight, fc_bias, norm_weight, norm_bias, norm_mean, norm_var)
        return weights @ weight, weights @ bias, statistics

    def attention(
        self,
        planes: Planes,
        fc_weight: Tensor,
        fc_bias: Tensor | None,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        norm_mean: Tensor | None,
        norm_var: Tensor | None,
    ) -> tuple[Tensor, Statistics]:
        """lambda (N, K), and the statistics of its BN."""
        a = self.source(planes.mean(), planes.v, planes.positions) @ fc_weight.t()
        if fc_bias is not None:
            a = a + fc_bias
        statistics: Statistics = ()
        if norm_weight is not None and norm_bias is not None:
            a, statistics = normed(a, norm_weight, norm_bias, norm_mean, norm_var, planes.pool)
        return self.activate(a), statistics

    def source(self, m: Tensor, v: Tensor, positions: int) -> Tensor:
        """s, (N, C) or (N, 2C)."""
        if self.input == "mean":
            return m
        std = torch.sqrt(v * (positions / max(positions - 1, 1)) + self.eps)
        return m / std if self.input == "rsd" else torch.cat([m, std], dim=1)

    def activate(self, a: Tensor) -> Tensor:
        """lambda, (N, K)."""
        if self.act == "relu":
            return torch.relu(a)
        if self.act == "sigmoid":
            return torch.sigmoid(a)
        if self.act == "softmax":
            return torch.softmax(a, dim=1)
        return torch.clamp(a + 3, 0, 6) / 6


def normed(
    a: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    pool: Pool,
    standardized: bool = False,
) -> tuple[Tensor, Statistics]:
    """BN of a (N, K) over samples, by given statistics or the batch's; and those, for running averages.

    standardized: whether a was calculated from standardized planes.
    """
    statistics: Statistics = ()
    if mean is None or var is None:
        batch = pool(a, None, 1, standardized)
        mean, var = batch.mean, batch.var
        statistics = (mean[0], batch.unbiased()[0])
    d = a - mean
    return d * torch.rsqrt(var + attention_norm_eps()) * weight + bias, statistics
