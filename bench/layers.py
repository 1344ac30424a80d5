"""The layers as the benchmark builds them, the same from fusednorm and fusednorm.reference, and what each must move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from .floor import floor_units
from .names import Form, Layer, Mode

Make = Callable[[Any, int, "str | None"], nn.Module]


@dataclass(frozen=True)
class Entry:
    """A layer: (namespace, channels, act) -> module, and its passes over x in units, forward and backward.

    The passes are those that its docstring counts, without a residual; `evaluation` None: as many as forward.
    """

    make: Make
    forward: int = 3  # moments: read x; affine: read x, write y
    backward: int = 5  # sums: read dy, x; gradient: read dy, x, write dx
    evaluation: int | None = None

    def units(self, form: Form, mode: Mode) -> int:
        return floor_units(
            residual=form is Form.residual_relu,
            mode=mode,
            forward_units=self.forward,
            backward_units=self.backward,
            eval_units=self.evaluation,
        )


def _recalibrated(recalibrate: Callable[[Any, int], nn.Module]) -> Make:
    """A recalibration after BN."""

    def make(ns: Any, C: int, act: str | None) -> nn.Module:
        layer: nn.Module = ns.RecalibratedNorm(ns.standardizations.Batch(C), recalibrate(ns, C), act)
        return layer

    return make


LAYERS: dict[Layer, Entry] = {
    Layer.an: Entry(lambda ns, C, act: ns.AttentiveBatchNorm2d(C, act=act)),
    Layer.an_gn: Entry(lambda ns, C, act: ns.AttentiveGroupNorm(32, C, act=act)),
    # running statistics are there before x is
    Layer.bn: Entry(lambda ns, C, act: ns.BatchNorm2d(C, act=act), evaluation=2),
    Layer.gn: Entry(lambda ns, C, act: ns.GroupNorm(32, C, act=act)),
    Layer.rbn: Entry(lambda ns, C, act: ns.RepresentativeBatchNorm2d(C, act=act)),
    Layer.rbn_std: Entry(lambda ns, C, act: ns.RepresentativeBatchNorm2d(C, center="std", scale="std", act=act)),
    # t, moments, covariance, and write y; sums over positions, sums over channels, dx (on cpu t with the covariance)
    Layer.rbn_center_spatial: Entry(
        lambda ns, C, act: ns.RepresentativeBatchNorm2d(C, center="spatial_mean", act=act), 5, 7
    ),
    # moments, u, and write y; backward likewise (on cpu, 2 units less). What cpu spares, the floor leaves out.
    Layer.rbn_scale_spatial: Entry(
        lambda ns, C, act: ns.RepresentativeBatchNorm2d(C, scale="spatial_mean", act=act), 4, 7
    ),
    Layer.sn: Entry(lambda ns, C, act: ns.SwitchableNorm2d(C, act=act)),
    # plane means, position sums, pooled sums, and write y; the gate's sums, dp, dt, dx
    Layer.na: Entry(lambda ns, C, act: ns.NormalizationAttention(act=act), 5, 7),
    Layer.na_code: Entry(
        lambda ns, C, act: ns.NormalizationAttention(similarity="mean_difference", unbiased=True, act=act), 4, 6
    ),
    Layer.na_bn: Entry(_recalibrated(lambda ns, C: ns.recalibrations.NormalizationAttention(C)), 5, 7),
    Layer.se: Entry(lambda ns, C, act: ns.SqueezeExcite(C, act=act)),
    Layer.se_bn: Entry(_recalibrated(lambda ns, C: ns.recalibrations.SqueezeExcite(C))),
    Layer.eca: Entry(lambda ns, C, act: ns.EfficientChannelAttention(C, act=act)),
    Layer.srm: Entry(lambda ns, C, act: ns.StyleRecalibration(C, act=act)),
    Layer.ge: Entry(lambda ns, C, act: ns.GatherExcite(C, act=act)),
    Layer.iebn: Entry(lambda ns, C, act: ns.InstanceEnhancementBatchNorm2d(C, act=act)),
    # its threshold is a ReLU's: a maximum after the passes
    Layer.frn: Entry(lambda ns, C, act: ns.FilterResponseNorm(C, threshold=act is not None), 5, 10),
    Layer.grn: Entry(lambda ns, C, act: ns.GlobalResponseNorm(C, act=act)),
}
