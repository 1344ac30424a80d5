"""Which parameters weight decay is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fusednorm.modules.layer import Recalibration, Standardization
from fusednorm.modules.projection import Projection

from .norms import LAYERS

_NORMALIZATIONS = (*LAYERS, Standardization, Recalibration, nn.LayerNorm, nn.RMSNorm, _NormBase)
_WEIGHTED = (Projection, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer, with and without weight decay.

    Without are all biases, and the normalizations' own parameters of any shape (SN section D): AN's mixture (K, C),
    RBN's calibration weights, SN's control parameters. The linear layers and convolutions within a layer (AN's
    attention, the two of squeeze-excite) are weights like others. Parameters that want no gradient are in no group.

    Raises:
        TypeError: model is no module, or weight_decay no number. ValueError: it is negative.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__name__}")
    if isinstance(weight_decay, bool) or not isinstance(weight_decay, (int, float)):
        raise TypeError(f"weight_decay: expected a number, got {weight_decay!r}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay: expected at least 0, got {weight_decay}")
    layers = [layer for layer in model.modules() if isinstance(layer, _NORMALIZATIONS)]
    exempt = {id(p) for layer in layers for p in _own(layer)}
    exempt |= {id(p) for name, p in model.named_parameters() if "bias" in _called(name)}
    wanted = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in wanted if id(p) not in exempt], "weight_decay": float(weight_decay)},
        {"params": [p for p in wanted if id(p) in exempt], "weight_decay": 0.0},
    ]


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    """A normalization's parameters but for those of the linear layers and convolutions in it, however parametrized."""
    if not isinstance(module, _WEIGHTED):
        yield from module.parameters(recurse=False)
        for child in module.children():
            yield from _own(child)


def _called(name: str) -> str:
    """A parameter's own name: bias also of layer.parametrizations.bias.original."""
    _, parametrized, inner = name.rpartition("parametrizations.")
    return inner.partition(".")[0] if parametrized else name.rpartition(".")[2]
