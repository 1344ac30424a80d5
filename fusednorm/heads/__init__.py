"""Heads: the N×C calculation between the engine's two passes. They know nothing of kernels."""

from .context import SIMILARITIES, Context
from .gates import ContextGate, EfficientChannelAttention, GatherExcite, SqueezeExcite, StyleRecalibration
from .head import AnyHead, Head
from .planes import RESTRICTIONS
from .recalibrate import ATTENTION_ACTS, ATTENTION_INPUTS, Affine, Attentive
from .representative import Representative
from .scaling import GlobalResponse, Scaling
from .standardize import Batch, FilterResponse, Group, Identity, Running
from .switchable import SCOPES, Switchable
from .user import UserHead

__all__ = [
    "ATTENTION_ACTS",
    "ATTENTION_INPUTS",
    "RESTRICTIONS",
    "SCOPES",
    "SIMILARITIES",
    "Affine",
    "AnyHead",
    "Attentive",
    "Batch",
    "Context",
    "ContextGate",
    "EfficientChannelAttention",
    "FilterResponse",
    "GatherExcite",
    "GlobalResponse",
    "Group",
    "Head",
    "Identity",
    "Representative",
    "Running",
    "Scaling",
    "SqueezeExcite",
    "StyleRecalibration",
    "Switchable",
    "UserHead",
]
