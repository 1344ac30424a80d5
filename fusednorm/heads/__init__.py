"""Heads: the N×C calculation between the engine's two passes. They know nothing of kernels."""

from .head import Head
from .recalibrate import ATTENTION_ACTS, ATTENTION_INPUTS, Affine, Attentive
from .standardize import Batch, Group, Running

__all__ = ["ATTENTION_ACTS", "ATTENTION_INPUTS", "Affine", "Attentive", "Batch", "Group", "Head", "Running"]
