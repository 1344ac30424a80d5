"""What heads calculate with: the moments of planes, before and after a standardization."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .samples import Pool, over_samples

Statistics = tuple[Tensor, ...]
Restrict = str | Callable[[Tensor], Tensor]

# Functions that keep a gate between 0 and 1.
RESTRICTIONS = ("sigmoid", "tanh", "hsigmoid")


# Statistics of a sample: of each channel over its positions, of each position over its channels.
PLANE_STATISTICS = ("mean", "std")
POSITION_STATISTICS = ("spatial_mean", "spatial_std")
STATISTICS = (*PLANE_STATISTICS, *POSITION_STATISTICS)


class Planes(NamedTuple):
    """What a recalibration may look at.

    m (N, C), float64, and v (N, C): plane means and biased variances of x; mu and inv = 1/sqrt(var + eps),
    broadcastable to (N, C): what the planes are standardized with, None for 0 and 1; spread: the planes' variances
    where more than a constant was taken from them before; pool takes statistics over samples (samples.py).
    """

    m: Tensor
    v: Tensor
    mu: Tensor | None
    inv: Tensor | None
    positions: int
    spread: Tensor | None = None
    pool: Pool = over_samples

    def affine(self, center: Tensor, gamma: Tensor | None, beta: Tensor | None) -> tuple[Tensor, Tensor]:
        """scale and shift (N, C) of gamma x_hat + beta = scale (x - center) + shift; None for 1 and 0."""
        scale = self.inv if gamma is None else self._scaled(gamma)
        scale = torch.ones_like(center) if scale is None else scale.expand_as(center)
        shift = scale * (center if self.mu is None else (center - self.mu).to(center.dtype))
        return scale, shift if beta is None else shift + beta

    def mean(self) -> Tensor:
        """Of x itself, in the compute type."""
        return self.m.to(self.v.dtype)

    def standardized_mean(self) -> Tensor:
        """Of x_hat."""
        return self._scaled(self.mean() if self.mu is None else (self.m - self.mu).to(self.v.dtype))

    def standardized_std(self) -> Tensor:
        """Of x_hat, the root of the biased variance."""
        return self._scaled(root(self.v if self.spread is None else self.spread))

    def standardized_var(self) -> Tensor:
        """Of x_hat, biased."""
        var = self.v if self.spread is None else self.spread
        return var if self.inv is None else var * self.inv.square()

    def _scaled(self, t: Tensor) -> Tensor:
        return t if self.inv is None else t * self.inv


def root(v: Tensor) -> Tensor:
    """sqrt(v), with derivative 0 at 0: a constant plane has no direction in which its deviation grows."""
    nothing = v <= 0
    return v.masked_fill(nothing, 1).sqrt().masked_fill(nothing, 0)


def inverse(var: Tensor | None, eps: float, dtype: torch.dtype) -> Tensor | None:
    """1/sqrt(var + eps), of nothing none."""
    return None if var is None else torch.rsqrt(var + eps).to(dtype)


def restricted(a: Tensor, restrict: Restrict) -> Tensor:
    """R(a), in [0, 1]."""
    if callable(restrict):
        return restrict(a)
    if restrict == "sigmoid":
        return torch.sigmoid(a)
    if restrict == "tanh":
        return (1 + torch.tanh(a)) / 2
    return torch.clamp(a + 3, 0, 6) / 6


def position_statistic(mean: Tensor, var: Tensor, name: str) -> Tensor:
    """Of the moments over channels at each position, (N, S)."""
    return mean if name == "spatial_mean" else root(var)


def position_statistic_slopes(mean: Tensor, var: Tensor, name: str, C: int) -> tuple[Tensor, Tensor | None]:
    """Its derivative by an element e of the C at a position: offset + slope*e, (N, S) each; no slope is 0."""
    if name == "spatial_mean":
        return torch.full_like(mean, 1 / C), None
    slope = torch.where(var > 0, torch.rsqrt(var) / C, 0)  # as root has it
    return -slope * mean, slope
