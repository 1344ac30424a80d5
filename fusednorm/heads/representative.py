"""Representative BatchNorm's centering calibration (Gao et al., 2021, eqs. 5-8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .planes import POSITION_STATISTICS, Statistics, root
from .samples import Pool, over_samples


@dataclass(frozen=True)
class Representative:
    """The batch statistics of x + center_weight K_m, K_m a plane's mean or std: mu = mean_n m' - center_weight K_m.

    With m' = m + center_weight K_m; var of m' and v. `running`: given statistics of the centred map. 2-D input has
    planes of one value, which are their mean and have std 0. With K_m the mean or std over channels at each position
    (Table 3) it is `around_positions` that gives mu and var: fusednorm/engine/spatial.py.
    """

    center: str = "mean"
    running: bool = False
    eps: float = 1e-5
    needs_moments: ClassVar[bool] = True

    @property
    def spatial(self) -> bool:
        return self.center in POSITION_STATISTICS

    @property
    def tensors(self) -> int:
        return 3 if self.running else 1

    @property
    def updates(self) -> int:
        return 0 if self.running else 2

    def __call__(
        self,
        m: Tensor,
        v: Tensor,
        positions: int,
        center_weight: Tensor,
        *running: Tensor,
        pool: Pool = over_samples,
    ) -> tuple[Tensor, Tensor, Statistics]:
        moved = center_weight * (m if self.center == "mean" else root(v))
        if self.running:
            mean, var = running
            return mean - moved, var[None], ()
        batch = pool(m + moved, v, positions)
        return batch.mean - moved, batch.var, (batch.mean[0], batch.unbiased()[0])

    def around_positions(
        self,
        m: Tensor,
        v: Tensor,
        cov: Tensor,
        t_mean: Tensor,
        t_var: Tensor,
        positions: int,
        center_weight: Tensor,
        *running: Tensor,
        pool: Pool = over_samples,
    ) -> tuple[Tensor, Tensor, Tensor, Statistics]:
        """mu, var, the centred planes' variances, and statistics; t[n,s] the statistic over channels at a position,
        t_mean and t_var (N, 1) its moments over positions, cov (N, C) its covariance with x."""
        moved, spread = center_weight * t_mean, v + 2 * center_weight * cov + center_weight.square() * t_var
        if self.running:
            mean, var = running
            return mean - moved, var[None], spread, ()
        batch = pool(m + moved, spread, positions)
        return batch.mean - moved, batch.var, spread, (batch.mean[0], batch.unbiased()[0])
