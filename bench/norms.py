"""The norms that networks are built with: nn.BatchNorm2d, or a layer where its paper puts it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

import fusednorm
import fusednorm.reference

from .layers import LAYERS
from .models import Norms, Site
from .names import Layer

# Layers that have a place in networks. The others stay BatchNorm.
PLACES: dict[Layer, Callable[[Site], bool]] = {
    Layer.an: lambda site: site.spatial,
    Layer.bn: lambda site: True,
    Layer.rbn: lambda site: True,
    Layer.rbn_std: lambda site: True,
    Layer.rbn_center_spatial: lambda site: True,
    Layer.rbn_scale_spatial: lambda site: True,
    Layer.sn: lambda site: True,
    Layer.iebn: lambda site: True,
    Layer.na_bn: lambda site: site.last,
    Layer.se_bn: lambda site: site.last,
}

_ACTS: dict[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda y: y,
    "relu": lambda y: F.relu(y, inplace=True),
    "relu6": lambda y: F.relu6(y, inplace=True),
}


class BatchNormAddAct(nn.BatchNorm2d):
    """nn.BatchNorm2d, and what follows it as models write it; in place, which is faster and saves memory."""

    def __init__(self, num_features: int, act: str | None) -> None:
        super().__init__(num_features)
        self.act = act

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        if residual is not None:
            y += residual
        return _ACTS[self.act](y)


def batch_norms(site: Site) -> nn.Module:
    """The BatchNorm network's."""
    return BatchNormAddAct(site.channels, site.act)


def fused_norms(layer: Layer) -> Norms:
    """The layer at its places, and fusednorm.BatchNorm2d at the others: residual and activation in every norm."""
    return _norms(layer, fusednorm, lambda site: fusednorm.BatchNorm2d(site.channels, act=site.act))


def reference_norms(layer: Layer) -> Norms:
    """The layer's reference at its places, and nn.BatchNorm2d at the others, as one who writes it in PyTorch has it."""
    return _norms(layer, fusednorm.reference, batch_norms)


def _norms(layer: Layer, namespace: ModuleType, others: Norms) -> Norms:
    if layer not in PLACES:
        raise ValueError(f"layer: {layer.value} has no place in a network; choose from {', '.join(PLACES)}")

    def make(site: Site) -> nn.Module:
        if not PLACES[layer](site):
            return others(site)
        if layer is Layer.an:  # the one whose size depends on the place
            module: nn.Module = namespace.AttentiveBatchNorm2d(site.channels, site.components, act=site.act)
            return module
        return LAYERS[layer].make(namespace, site.channels, site.act)

    return make
