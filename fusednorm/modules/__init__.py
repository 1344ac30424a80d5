"""The layers as nn.Modules, one file a family."""

from .attentive import AttentiveBatchNorm1d, AttentiveBatchNorm2d, AttentiveBatchNorm3d, AttentiveGroupNorm
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .gated import EfficientChannelAttention, GatherExcite, NormalizationAttention, SqueezeExcite, StyleRecalibration
from .group_norm import GroupNorm
from .layer import FusedNorm, RecalibratedNorm
from .representative import RepresentativeBatchNorm1d, RepresentativeBatchNorm2d, RepresentativeBatchNorm3d
from .response import (
    FilterResponseNorm,
    GlobalResponseNorm,
    InstanceEnhancementBatchNorm1d,
    InstanceEnhancementBatchNorm2d,
    InstanceEnhancementBatchNorm3d,
)
from .switchable import SwitchableNorm1d, SwitchableNorm2d, SwitchableNorm3d

__all__ = [
    "AttentiveBatchNorm1d",
    "AttentiveBatchNorm2d",
    "AttentiveBatchNorm3d",
    "AttentiveGroupNorm",
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
]
