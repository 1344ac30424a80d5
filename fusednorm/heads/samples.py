"""Statistics over samples. Heads take them by a `pool`, so that those of several processes can be taken together."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Pooled(NamedTuple):
    """Mean and biased variance (1, K) of `values` values of `samples` samples: numbers, or tensors where only the
    exchange between processes tells."""

    mean: Tensor
    var: Tensor
    values: int | Tensor
    samples: int | Tensor

    def unbiased(self) -> Tensor:
        """The variance with the divisor values - 1, as torch's running averages take it."""
        return self.var * bessel(self.values)

    def unbiased_samples(self) -> Tensor:
        """The variance with the divisor samples - 1 where every plane is of one position."""
        if isinstance(self.values, Tensor):
            return self.var * torch.where(self.values == self.samples, bessel(self.samples), 1.0)
        return self.unbiased() if self.values == self.samples else self.var


# pool(mean (N, K), var (N, K) or None, positions, standardized=False): what is known of each sample's `positions`
# values. `standardized`: whether it was calculated from what has been pooled before.
Pool = Callable[..., Pooled]
Pools = tuple[Pool, Pool]  # a standardization's and a recalibration's


def over_samples(mean: Tensor, var: Tensor | None, positions: int, standardized: bool = False) -> Pooled:
    """Of the samples that are here. Written centred: variance around the mean."""
    N = mean.shape[0]
    mu = mean.mean(0, keepdim=True)
    square = (mean - mu).square()
    square = square if var is None else var + square
    return Pooled(mu, square.mean(0, keepdim=True), N * positions, N)


HERE: Pools = (over_samples, over_samples)


def bessel(count: int | Tensor) -> float | Tensor:
    """count/(count - 1), 1 for a single value."""
    if isinstance(count, Tensor):
        return count / (count - 1).clamp(min=1)
    return count / max(count - 1, 1)
