"""The recalibrations (x, x_hat) -> y, by name: modules called as part(x, x_hat), both in the type to calculate in."""

from .affine import Affine
from .attentive import Attentive
from .gates import EfficientChannelAttention, GatherExcite, SqueezeExcite, StyleRecalibration
from .global_response import GlobalResponse
from .instance_enhancement import InstanceEnhancement
from .normalization_attention import NormalizationAttention
from .representative import Scaling

__all__ = [
    "Affine",
    "Attentive",
    "EfficientChannelAttention",
    "GatherExcite",
    "GlobalResponse",
    "InstanceEnhancement",
    "NormalizationAttention",
    "Scaling",
    "SqueezeExcite",
    "StyleRecalibration",
]
