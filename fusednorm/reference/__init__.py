"""The papers' layers on whole tensors: slow, obvious, and what everything else is tested against.

Nothing here knows of a kernel or of the rest of fusednorm; autograd differentiates it as often as asked.
"""

from . import recalibrations, standardizations
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
from .bare import (
    EfficientChannelAttention,
    GatherExcite,
    GlobalResponseNorm,
    NormalizationAttention,
    SqueezeExcite,
    StyleRecalibration,
)
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .filter_response import FilterResponseNorm
from .group_norm import GroupNorm
from .instance_enhancement import (
    InstanceEnhancementBatchNorm1d,
    InstanceEnhancementBatchNorm2d,
    InstanceEnhancementBatchNorm3d,
)
from .normalization_attention import context_gate, contextual_similarity
from .parts import RecalibratedNorm
from .representative import RepresentativeBatchNorm1d, RepresentativeBatchNorm2d, RepresentativeBatchNorm3d
from .standardize import batch_moments, group_moments, instance_moments, layer_moments, standardize
from .statistics import instance_statistic
from .switchable import SwitchableNorm1d, SwitchableNorm2d, SwitchableNorm3d, scope_moments

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
    "activate",
    "attention_activation",
    "attention_input",
    "attentive_recalibration",
    "batch_moments",
    "context_gate",
    "contextual_similarity",
    "group_moments",
    "instance_moments",
    "instance_statistic",
    "layer_moments",
    "recalibrations",
    "scope_moments",
    "standardizations",
    "standardize",
]
