"""Standardizations: from a map's plane moments to the mean and variance that each plane is standardized with.

Each takes the plane means m and biased plane variances v, (N, C), and gives mu and var, broadcastable to (N, C),
and the statistics that running averages are made of. All are written centred: variance around the mean, never
E[x²] - E[x]².
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Statistics = tuple[Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """Batch statistics: mu = mean_n m, var = mean_n (v + (m - mu)²)."""

    eps: float = 1e-5
    tensors = 0

    def __call__(self, m: Tensor, v: Tensor, positions: int) -> tuple[Tensor, Tensor, Statistics]:
        mu = m.mean(0, keepdim=True)
        var = (v + (m - mu).square()).mean(0, keepdim=True)
        count = m.shape[0] * positions
        return mu, var, (mu[0], var[0] * (count / max(count - 1, 1)))


@dataclass(frozen=True)
class Group:
    """Statistics of `groups` groups of channels in a sample; 1 is layer, C is instance standardization."""

    groups: int
    eps: float = 1e-5
    tensors = 0

    def __call__(self, m: Tensor, v: Tensor, positions: int) -> tuple[Tensor, Tensor, Statistics]:
        N, C = m.shape
        grouped = (N, self.groups, C // self.groups)
        mu = m.reshape(grouped).mean(-1, keepdim=True)
        var = (v.reshape(grouped) + (m.reshape(grouped) - mu).square()).mean(-1, keepdim=True)
        return mu.expand(grouped).reshape(N, C), var.expand(grouped).reshape(N, C), ()


@dataclass(frozen=True)
class Running:
    """Given statistics, the running ones of training: mu and var are the tensors (C) themselves."""

    eps: float = 1e-5
    tensors = 2

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, mean: Tensor, var: Tensor
    ) -> tuple[Tensor, Tensor, Statistics]:
        return mean[None], var[None], ()
