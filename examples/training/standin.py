"""Until fusednorm.convert and fusednorm.parameter_groups are there: the same calls, the least that trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

import fusednorm
from fusednorm import recalibrations, standardizations

_LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "batch": fusednorm.BatchNorm2d,
    "attentive": fusednorm.AttentiveBatchNorm2d,
    "representative": fusednorm.RepresentativeBatchNorm2d,
    "switchable": fusednorm.SwitchableNorm2d,
    "normalization_attention": lambda channels: fusednorm.RecalibratedNorm(
        standardizations.Batch(channels), recalibrations.NormalizationAttention(channels)
    ),
    "squeeze_excite": lambda channels: fusednorm.RecalibratedNorm(
        standardizations.Batch(channels), recalibrations.SqueezeExcite(channels)
    ),
}


class Conversion(NamedTuple):
    model: nn.Module
    report: str


def convert(model: nn.Module, recipe: str, **options: Any) -> Conversion:
    count = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _LAYERS[recipe](child.num_features))
                count += 1
    return Conversion(model, f"{count} layers of recipe {recipe}")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    norms = {p for m in model.modules() if type(m).__module__.startswith("fusednorm.") for p in m.parameters()}
    exempt = [p for p in model.parameters() if p in norms or p.dim() < 2]
    rest = [p for p in model.parameters() if not (p in norms or p.dim() < 2)]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": exempt, "weight_decay": 0.0}]
