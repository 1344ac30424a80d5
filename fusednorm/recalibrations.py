"""Recalibrations, for fusednorm.RecalibratedNorm; each takes the number of channels. Errors in constructing and
calling them are those of the layers that have them, and of fusednorm.modules.layer.Recalibration."""

from .modules.affine import Affine
from .modules.attentive import Attentive
from .modules.gates import EfficientChannelAttention, GatherExcite, SqueezeExcite, StyleRecalibration
from .modules.normalization_attention import NormalizationAttention
from .modules.representative import Scaling
from .modules.response import GlobalResponse, InstanceEnhancement

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
