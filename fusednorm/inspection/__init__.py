"""What fused layers have learned, and what they do with a batch: numbers, tables and pictures."""

from .layers import Inspection, Layer, Spread
from .look import inspect
from .plots import plot_attention, plot_calibration, plot_importance, plot_spread, save

__all__ = [
    "Inspection",
    "Layer",
    "Spread",
    "inspect",
    "plot_attention",
    "plot_calibration",
    "plot_importance",
    "plot_spread",
    "save",
]
