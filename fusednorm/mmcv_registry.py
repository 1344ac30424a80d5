"""Our layers by name in mmcv's registry, for norm_cfg=dict(type="AN") in configurations of the OpenMMLab projects.

`import fusednorm` does it where mmcv (2.0 or newer) is installed; in a configuration,
custom_imports=dict(imports=["fusednorm"]) sees to it. mmcv makes a layer as type(num_features, **others), eps among
them, and names a block's layers after the class's `_abbr_`.

    FusedBN, FusedGN   BatchNorm2d, GroupNorm (num_groups=32)
    AN, AN1d, AN2d, AN3d, ANGN   AttentiveBatchNorm2d, ..., AttentiveGroupNorm (num_groups=32)
    RBN, RBN1d, ...    RepresentativeBatchNorm2d, ...
    SN, SN1d, ...      SwitchableNorm2d, ...
    IEBN, IEBN1d, ...  InstanceEnhancementBatchNorm2d, ...
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from . import modules

_FAMILIES = {
    "FusedBN": ("BatchNorm", "bn"),
    "AN": ("AttentiveBatchNorm", "an"),
    "RBN": ("RepresentativeBatchNorm", "rbn"),
    "SN": ("SwitchableNorm", "sn"),
    "IEBN": ("InstanceEnhancementBatchNorm", "iebn"),
}


class FusedGroupNorm(modules.GroupNorm):
    """fusednorm.GroupNorm with the number of channels first."""

    _abbr_ = "gn"

    def __init__(self, num_channels: int, num_groups: int = 32, **options: Any) -> None:
        super().__init__(num_groups, num_channels, **options)


class AttentiveGroupNorm(modules.AttentiveGroupNorm):
    """fusednorm.AttentiveGroupNorm with the number of channels first."""

    _abbr_ = "an"

    def __init__(self, num_channels: int, num_groups: int = 32, **options: Any) -> None:
        super().__init__(num_groups, num_channels, **options)


def layers() -> dict[str, type[Any]]:
    """The classes by the names they are registered by."""
    named: dict[str, type[Any]] = {"FusedGN": FusedGroupNorm, "ANGN": AttentiveGroupNorm}
    for name, (family, abbreviation) in _FAMILIES.items():
        for dims in (1, 2, 3):
            layer = getattr(modules, f"{family}{dims}d")
            layer._abbr_ = abbreviation
            named[f"{name}{dims}d"] = layer
        named[name] = named[f"{name}2d"]
    return named


def register(registry: Any) -> None:
    """Put the layers into a registry (mmengine.registry.MODELS); those that are there already stay."""
    for name, layer in layers().items():
        if name not in registry:
            registry.register_module(name=name, module=layer)


def register_where_installed() -> None:
    """Whatever is wrong with an installation of mmcv is no concern of ours."""
    try:
        if importlib.util.find_spec("mmcv") is not None:
            register(importlib.import_module("mmengine.registry").MODELS)
    except Exception:  # ours is to be imported all the same
        return
