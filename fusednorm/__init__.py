"""fusednorm: normalization layers that also pay attention, fused.

Layers are nn.Modules called as `layer(x, residual=None)`; `fusednorm.functional` has a function for each. Most read
x twice and write the result once, forward, with statistics, attention, residual and activation in those passes.
`RecalibratedNorm` joins any of `standardizations` with any of `recalibrations`, `FusedNorm` takes a head of your own,
`official` converts checkpoints. `backends()` says what runs them here.
"""

from . import functional, official, recalibrations, standardizations
from ._version import __version__
from .averaging import average_statistics, update_bn
from .engine import Backend, backends, use_backend
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

__all__ = [
    "AttentiveBatchNorm1d",
    "AttentiveBatchNorm2d",
    "AttentiveBatchNorm3d",
    "AttentiveGroupNorm",
    "Backend",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
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
    "functional",
    "official",
    "recalibrations",
    "standardizations",
    "update_bn",
    "use_backend",
]
