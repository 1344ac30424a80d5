"""Switchable Normalization's standardization (Luo et al., 2019, eqs. 3-5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .planes import Statistics
from .samples import Pool, bessel, over_samples
from .standardize import group_moments

SCOPES = ("instance", "layer", "batch", "group")


@dataclass(frozen=True)
class Switchable:
    """mu = sum_k w_k mu_k, var = sum_k w'_k var_k over the scopes k; w = softmax(mean_weight), w' =
    softmax(var_weight).

    The control parameters are (k) or, with ratios of their own for each group of channels, (groups of ratios, k).
    `unbiased`, as the official code: the plane's variance is v S/(S-1), and the other scopes' are made of it, neither
    biased nor unbiased; over planes of one position it is the variance over channels or samples that is unbiased.
    `running`: the scope "batch" takes given statistics. What is tracked of it is var_batch as it is used.
    """

    scopes: tuple[str, ...]
    num_groups: int = 1
    unbiased: bool = False
    running: bool = False
    eps: float = 1e-5
    needs_moments: ClassVar[bool] = True

    @property
    def tensors(self) -> int:
        return 4 if self.running else 2

    @property
    def updates(self) -> int:
        return 2 if "batch" in self.scopes and not self.running else 0

    def __call__(
        self,
        m: Tensor,
        v: Tensor,
        positions: int,
        mean_weight: Tensor,
        var_weight: Tensor,
        *running: Tensor,
        pool: Pool = over_samples,
    ) -> tuple[Tensor, Tensor, Statistics]:
        C = m.shape[1]
        w, w_var = (ratios(t, C) for t in (mean_weight, var_weight))
        factor = positions / (positions - 1) if self.unbiased and positions > 1 else 1.0
        # Around m, for w sums to 1 but for rounding, and m may be large.
        mu, var = m, torch.zeros_like(v)
        statistics: Statistics = ()
        for k, scope in enumerate(self.scopes):
            if scope == "batch" and self.running:
                mean_k, var_k = (t[None] for t in running)
            else:
                mean_k, var_k = self.moments(scope, m, v * factor, positions, pool)
            if scope == "batch" and not self.running:
                statistics = (mean_k[0], var_k[0])
            mu = mu + w[..., k] * (mean_k - m)
            var = var + w_var[..., k] * var_k
        return mu, var, statistics

    def moments(self, scope: str, m: Tensor, v: Tensor, positions: int, pool: Pool) -> tuple[Tensor, Tensor]:
        """mu_k and var_k of a scope."""
        if scope == "instance":
            return m, v
        if scope == "batch":
            batch = pool(m, v, positions)
            return batch.mean, batch.unbiased_samples() if self.unbiased else batch.var
        groups = 1 if scope == "layer" else self.num_groups
        mu, var = group_moments(m, v, groups)
        return mu, var * bessel(m.shape[1] // groups) if self.unbiased and positions == 1 else var


def ratios(weight: Tensor, channels: int) -> Tensor:
    """Softmax of the control parameters, (k) or (C, k)."""
    w = torch.softmax(weight, -1)
    return w if w.dim() == 1 else w.repeat_interleave(channels // w.shape[0], 0)
