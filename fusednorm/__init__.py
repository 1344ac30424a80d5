"""fusednorm: normalization layers that also pay attention, fused.

Layers are nn.Modules called as `layer(x, residual=None)`; `fusednorm.functional` has a function for each. Most read
x twice and write the result once, forward, with statistics, attention, residual and activation in those passes.
`RecalibratedNorm` joins any of `standardizations` with any of `recalibrations`, `FusedNorm` takes a head of your own,
`official` converts checkpoints. `backends()` says what runs them here.
"""

from . import functional, mmcv_registry, norm_layers, official, recalibrations, standardizations
from ._version import __version__
from .averaging import average_statistics, update_bn
from .engine import Backend, backends, use_backend
from .inspection import inspect
from .modules import (
    AttentiveBatchNorm1d,
    AttentiveBatchNorm2d,
    AttentiveBatchNorm3d,
    AttentiveGroupNorm,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    EfficientChannelAttention,
    FilterResponseNorm,
    FusedNorm,
    GatherExcite,
    GlobalResponseNorm,
    GroupNorm,
    InstanceEnhancementBatchNorm1d,
    InstanceEnhancementBatchNorm2d,
    InstanceEnhancementBatchNorm3d,
    NormalizationAttention,
    RecalibratedNorm,
    RepresentativeBatchNorm1d,
    RepresentativeBatchNorm2d,
    RepresentativeBatchNorm3d,
    SqueezeExcite,
    StyleRecalibration,
    SwitchableNorm1d,
    SwitchableNorm2d,
    SwitchableNorm3d,
)
from .surgery import Conversion, Recipe, convert, convert_sync, fold, freeze, parameter_groups, revert, unfreeze

__all__ = [
    "AttentiveBatchNorm1d",
    "AttentiveBatchNorm2d",
    "AttentiveBatchNorm3d",
    "AttentiveGroupNorm",
    "Backend",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conversion",
    "EfficientChannelAttention",
    "FilterResponseNorm",
    "FusedNorm",
    "GatherExcite",
    "GlobalResponseNorm",
    "GroupNorm",
    "InstanceEnhancementBatchNorm1d",
    "InstanceEnhancementBatchNorm2d",
    "InstanceEnhancementBatchNorm3d",
    "NormalizationAttention",
    "RecalibratedNorm",
    "Recipe",
    "RepresentativeBatchNorm1d",
    "RepresentativeBatchNorm2d",
    "RepresentativeBatchNorm3d",
    "SqueezeExcite",
    "StyleRecalibration",
    "SwitchableNorm1d",
    "SwitchableNorm2d",
    "SwitchableNorm3d",
    "__version__",
    "average_statistics",
    "backends",
    "convert",
    "convert_sync",
    "fold",
    "freeze",
    "functional",
    "inspect",
    "norm_layers",
    "official",
    "parameter_groups",
    "recalibrations",
    "revert",
    "standardizations",
    "unfreeze",
    "update_bn",
    "use_backend",
]

mmcv_registry.register_where_installed()
