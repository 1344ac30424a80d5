"""Recalibrations: the affine map after a standardization, Gamma and Beta, broadcastable to (N, C)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .standardize import Statistics

ATTENTION_INPUTS = ("mean", "mean_std", "rsd")
ATTENTION_ACTS = ("relu", "sigmoid", "softmax", "hsigmoid")
ATTENTION_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Affine:
    """Gamma = weight, Beta = bias: one of each a channel, as in BN and GN. Without them 1 and 0."""

    tensors = 2

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, weight: Tensor | None, bias: Tensor | None
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
    tensors = 8

    def __call__(
        self,
        m: Tensor,
        v: Tensor,
        positions: int,
        weight: Tensor,
        bias: Tensor,
        fc_weight: Tensor,
        fc_bias: Tensor | None,
        norm_weight: Tensor | None,
        norm_bias: Tensor | None,
        norm_mean: Tensor | None,
        norm_var: Tensor | None,
    ) -> tuple[Tensor, Tensor, Statistics]:
        a = self.source(m, v, positions) @ fc_weight.t()
        if fc_bias is not None:
            a = a + fc_bias
        statistics: Statistics = ()
        if norm_weight is not None and norm_bias is not None:
            if norm_mean is None or norm_var is None:
                N = a.shape[0]
                norm_mean, norm_var = a.mean(0), (a - a.mean(0)).square().mean(0)
                statistics = (norm_mean, norm_var * (N / max(N - 1, 1)))
            a = (a - norm_mean) * torch.rsqrt(norm_var + ATTENTION_NORM_EPS) * norm_weight + norm_bias
        weights = self.activate(a)
        return weights @ weight, weights @ bias, statistics

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
