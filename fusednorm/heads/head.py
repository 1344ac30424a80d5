"""A head: standardization and recalibration, joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from .context import Context
from .planes import Planes, Statistics, inverse
from .samples import HERE, Pools


class AnyHead(Protocol):
    """What the engine knows of a head."""

    @property
    def needs_moments(self) -> bool: ...
    @property
    def family(self) -> str: ...
    @property
    def updates(self) -> int: ...
    def pivot(self, tensors: tuple[Tensor | None, ...]) -> Tensor | None: ...
    def __call__(
        self, center: Tensor, m: Tensor, v: Tensor, positions: int, *tensors: Tensor | None, pools: Pools = HERE
    ) -> tuple[Tensor, Tensor, Statistics]: ...


@dataclass(frozen=True)
class Head:
    """scale = Gamma / sqrt(var + eps), shift = Beta + scale*(center - mu).

    m (N, C) are the plane means, in float64 (heads take differences of them), v (N, C) the variances, in the compute
    type, center (N, C) the pivot of docs/engine.md, a constant. `tensors` are the standardization's, then the
    recalibration's; `updates` is how many of the statistics are the standardization's.
    """

    standardize: Any
    recalibrate: Any

    @property
    def needs_moments(self) -> bool:
        """Whether anything depends on the map's own moments."""
        return bool(self.standardize.needs_moments or self.recalibrate.needs_moments)

    @property
    def family(self) -> str:
        """Which passes it goes between: "planes", or with a value per position "spatial" or "context"."""
        if isinstance(self.recalibrate, Context):
            return "context"
        spatial = getattr(self.standardize, "spatial", False) or getattr(self.recalibrate, "spatial", False)
        return "spatial" if spatial else "planes"

    @property
    def has_function(self) -> bool:
        """Whether its gate is a function of the user's, which may hold parameters that the head's tensors lack."""
        recalibrate = self.recalibrate
        return callable(getattr(recalibrate, "restrict", None)) or callable(getattr(recalibrate, "gate", None))

    @property
    def updates(self) -> int:
        return int(self.standardize.updates)

    def pivot(self, tensors: tuple[Tensor | None, ...]) -> Tensor | None:
        """What stands for the means where no moments are taken: (C,), or None for 0."""
        pivot: Tensor | None = self.standardize.pivot(*tensors[: self.standardize.tensors])
        return pivot

    def __call__(
        self, center: Tensor, m: Tensor, v: Tensor, positions: int, *tensors: Tensor | None, pools: Pools = HERE
    ) -> tuple[Tensor, Tensor, Statistics]:
        """scale and shift (N, C), and the statistics that running averages are made of."""
        dtype = center.dtype
        cast = [None if t is None else t.to(dtype) for t in tensors]
        own = self.standardize.tensors
        mu, var, batch_statistics = self.standardize(m, v, positions, *cast[:own], pool=pools[0])
        planes = Planes(m, v, mu, inverse(var, self.standardize.eps, dtype), positions, pool=pools[1])
        gamma, beta, statistics = self.recalibrate(planes, *cast[own:])
        return *planes.affine(center, gamma, beta), batch_statistics + statistics
