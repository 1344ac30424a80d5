"""Checked parts of a layer: a head's half, its tensors, and the running averages that its statistics move.

functional.py and the modules build layers of two of them, `run(x, standardization, recalibration, ...)`.
"""

from .part import Factor, Part, run, run_head
from .recalibrate import (
    AttentionNorm,
    affine,
    attentive,
    efficient_channel_attention,
    gather_excite,
    global_response,
    normalization_attention,
    scaling,
    squeeze_excite,
    style_recalibration,
)
from .standardize import batch, filter_response, group, identity, representative, switchable

__all__ = [
    "AttentionNorm",
    "Factor",
    "Part",
    "affine",
    "attentive",
    "batch",
    "efficient_channel_attention",
    "filter_response",
    "gather_excite",
    "global_response",
    "group",
    "identity",
    "normalization_attention",
    "representative",
    "run",
    "run_head",
    "scaling",
    "squeeze_excite",
    "style_recalibration",
    "switchable",
]
