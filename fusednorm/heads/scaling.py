"""Recalibrations that scale x_hat alone, Beta = bias: RBN's scaling calibration, IEBN, global response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .planes import PLANE_STATISTICS, POSITION_STATISTICS, Planes, Restrict, Statistics, restricted, root

SCALING_STATISTICS = (*PLANE_STATISTICS, *POSITION_STATISTICS, "input_mean")


@dataclass(frozen=True)
class Scaling:
    """Gamma = weight R(scale_weight K + scale_bias), K a plane's mean or std of x_hat (RBN, Gao et al., 2021, eq. 9),
    or its mean of x itself ("input_mean": IEBN, Liang et al., 2020).

    K may be the mean or std over channels at each position of x_hat (RBN's Table 3): fusednorm/engine/spatial.py.
    """

    statistic: str = "mean"
    restrict: Restrict = "sigmoid"
    tensors: ClassVar[int] = 4

    @property
    def spatial(self) -> bool:
        return self.statistic in POSITION_STATISTICS

    @property
    def needs_moments(self) -> bool:
        return not self.spatial

    def __call__(
        self, planes: Planes, weight: Tensor | None, bias: Tensor | None, scale_weight: Tensor, scale_bias: Tensor
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        gate = restricted(scale_weight * self.source(planes) + scale_bias, self.restrict)
        return gate if weight is None else weight * gate, None if bias is None else bias[None], ()

    def source(self, planes: Planes) -> Tensor:
        """K, (N, C)."""
        if self.statistic == "input_mean":
            return planes.mean()
        return planes.standardized_mean() if self.statistic == "mean" else planes.standardized_std()


@dataclass(frozen=True)
class GlobalResponse:
    """Gamma = weight G/(mean_c G + eps) + 1, Beta = bias, G the L2 norm of a plane of x_hat (ConvNeXt V2, Woo et al.,
    2023)."""

    eps: float = 1e-6
    tensors: ClassVar[int] = 2
    needs_moments: ClassVar[bool] = True

    def __call__(self, planes: Planes, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Statistics]:
        mean_square = planes.standardized_var() + planes.standardized_mean().square()
        G = root(mean_square * planes.positions)
        return weight * (G / (G.mean(1, keepdim=True) + self.eps)) + 1, bias[None], ()
