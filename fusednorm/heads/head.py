"""A head: standardization and recalibration, joined."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .recalibrate import Affine, Attentive
from .standardize import Batch, Group, Running, Statistics


@dataclass(frozen=True)
class Head:
    """scale = Gamma / sqrt(var + eps), shift = Beta + scale*(center - mu).

    m (N, C) are the plane means, in float64 (heads take differences of them), v (N, C) the variances, in the compute
    type, center (N, C) the pivot of docs/engine.md, a constant. `tensors` are the standardization's, then the
    recalibration's.
    """

    standardize: Batch | Group | Running
    recalibrate: Affine | Attentive

    @property
    def needs_moments(self) -> bool:
        """Whether anything depends on the map's own moments."""
        return not (isinstance(self.standardize, Running) and isinstance(self.recalibrate, Affine))

    def __call__(
        self, center: Tensor, m: Tensor, v: Tensor, positions: int, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor, Statistics]:
        """scale and shift (N, C), and the statistics that running averages are made of."""
        dtype = center.dtype
        cast = [None if t is None else t.to(dtype) for t in tensors]
        own = self.standardize.tensors
        mu, var, batch_statistics = self.standardize(m, v, positions, *cast[:own])  # type: ignore[arg-type]
        gamma, beta, statistics = self.recalibrate(m.to(dtype), v, positions, *cast[own:])  # type: ignore[arg-type]
        scale = torch.rsqrt(var + self.standardize.eps).to(dtype)
        if gamma is not None:
            scale = scale * gamma
        shift = scale * (center - mu).to(dtype)
        if beta is not None:
            shift = shift + beta
        return scale.expand_as(center), shift, batch_statistics + statistics
