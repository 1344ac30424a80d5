"""The layers as nn.Modules, one file a family."""

from .attentive import AttentiveBatchNorm1d, AttentiveBatchNorm2d, AttentiveBatchNorm3d, AttentiveGroupNorm
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .group_norm import GroupNorm

__all__ = [
    "AttentiveBatchNorm1d",
    "AttentiveBatchNorm2d",
    "AttentiveBatchNorm3d",
    "AttentiveGroupNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
]
