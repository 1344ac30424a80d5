"""Standardizations: from a map's plane moments to the mean and variance that each plane is standardized with.

Each takes the plane means m (float64) and biased plane variances v, (N, C), and its tensors, and gives mu and var,
broadcastable to (N, C), None for 0 and 1, and the statistics that running averages are made of (`updates` of them).
What is taken over samples `pool` takes (samples.py).
All are written centred: variance around the mean, never E[x²] - E[x]². Where no moments are taken (`needs_moments`),
`pivot` says what the kernels subtract in the means' place: (C,), or None for 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .planes import Statistics
from .samples import Pool, over_samples


@dataclass(frozen=True)
class Batch:
    """Batch statistics: mu = mean_n m, var = mean_n (v + (m - mu)²)."""

    eps: float = 1e-5
    tensors: ClassVar[int] = 0
    updates: ClassVar[int] = 2
    needs_moments: ClassVar[bool] = True

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, *, pool: Pool = over_samples
    ) -> tuple[Tensor, Tensor, Statistics]:
        batch = pool(m, v, positions)
        return batch.mean, batch.var, (batch.mean[0], batch.unbiased()[0])


@dataclass(frozen=True)
class Group:
    """Statistics of `groups` groups of channels in a sample; 1 is layer, C is instance standardization."""

    groups: int
    eps: float = 1e-5
    tensors: ClassVar[int] = 0
    updates: ClassVar[int] = 0
    needs_moments: ClassVar[bool] = True

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, *, pool: Pool = over_samples
    ) -> tuple[Tensor, Tensor, Statistics]:
        return *group_moments(m, v, self.groups), ()


@dataclass(frozen=True)
class Running:
    """Given statistics, the running ones of training: mu and var are the tensors (C) themselves."""

    eps: float = 1e-5
    tensors: ClassVar[int] = 2
    updates: ClassVar[int] = 0
    needs_moments: ClassVar[bool] = False

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, mean: Tensor, var: Tensor, *, pool: Pool = over_samples
    ) -> tuple[Tensor, Tensor, Statistics]:
        return mean[None], var[None], ()

    def pivot(self, mean: Tensor, var: Tensor) -> Tensor:
        return mean


@dataclass(frozen=True)
class Identity:
    """None at all: x_hat = x."""

    tensors: ClassVar[int] = 0
    updates: ClassVar[int] = 0
    needs_moments: ClassVar[bool] = False

    @property
    def eps(self) -> float:
        """Nothing to guard. A literal, for the compiler: recalibrate.attention_norm_eps."""
        return 0.0

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, *, pool: Pool = over_samples
    ) -> tuple[None, None, Statistics]:
        return None, None, ()

    def pivot(self) -> None:
        return None


@dataclass(frozen=True)
class FilterResponse:
    """mu = 0, var = mean_s x² = v + m² (FRN, Singh & Krishnan, 2020)."""

    eps: float = 1e-6
    tensors: ClassVar[int] = 0
    updates: ClassVar[int] = 0
    needs_moments: ClassVar[bool] = True

    def __call__(
        self, m: Tensor, v: Tensor, positions: int, *, pool: Pool = over_samples
    ) -> tuple[None, Tensor, Statistics]:
        return None, v + m.square(), ()


def group_moments(m: Tensor, v: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """mu and var of groups of channels, (N, C)."""
    N, C = m.shape
    grouped = (N, groups, C // groups)
    mu = m.reshape(grouped).mean(-1, keepdim=True)
    var = (v.reshape(grouped) + (m.reshape(grouped) - mu).square()).mean(-1, keepdim=True)
    return mu.expand(grouped).reshape(N, C), var.expand(grouped).reshape(N, C)
