"""The papers' layers on whole tensors: slow, obvious, and what everything else is tested against.

Nothing here knows of a kernel or of the rest of fusednorm; autograd differentiates it as often as asked.
"""

from .activation import activate
from .attentive import (
    AttentiveBatchNorm1d,
    AttentiveBatchNorm2d,
    AttentiveBatchNorm3d,
    AttentiveGroupNorm,
    attention_activation,
    attention_input,
    attentive_recalibration,
)
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .group_norm import GroupNorm
from .standardize import batch_moments, group_moments, instance_moments, layer_moments, standardize

__all__ = [
    "AttentiveBatchNorm1d",
    "AttentiveBatchNorm2d",
    "AttentiveBatchNorm3d",
    "AttentiveGroupNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "activate",
    "attention_activation",
    "attention_input",
    "attentive_recalibration",
    "batch_moments",
    "group_moments",
    "instance_moments",
    "layer_moments",
    "standardize",
]
