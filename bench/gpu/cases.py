"""Types, shapes and layers that several stages measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.layers import LAYERS as FURTHER_LAYERS
from bench.layers import Entry
from bench.names import Layer
from bench.shapes import Shape

TYPES = ("float32", "bfloat16", "float16")

# ResNet-50's maps: channels and height.
RESNET = ((256, 56), (64, 112), (64, 56), (128, 28), (512, 28), (256, 14), (1024, 14), (512, 7), (2048, 7))

# Name -> (fusednorm or fusednorm.reference, channels) -> layer. The attentive ones have the paper's 10 components.
LAYERS: dict[str, Callable[[Any, int], nn.Module]] = {
    "AttentiveBatchNorm2d": lambda ns, C: ns.AttentiveBatchNorm2d(C, act="relu"),
    "BatchNorm2d": lambda ns, C: ns.BatchNorm2d(C, act="relu"),
    "AttentiveGroupNorm": lambda ns, C: ns.AttentiveGroupNorm(groups(C), C, act="relu"),
    "GroupNorm": lambda ns, C: ns.GroupNorm(groups(C), C, act="relu"),
}

# The other papers' layers, by their names in bench/layers.py; measured on the headline's shape alone.
FURTHER = (
    Layer.rbn,
    Layer.rbn_std,
    Layer.sn,
    Layer.se_bn,
    Layer.na,
    Layer.na_bn,
    Layer.rbn_center_spatial,
    Layer.rbn_scale_spatial,
)


def entry(name: str) -> Entry:
    """How the layer is made, and the units it moves."""
    if name in LAYERS:
        return Entry(lambda ns, C, act: LAYERS[name](ns, C))
    return FURTHER_LAYERS[Layer(name)]


@dataclass(frozen=True)
class Case:
    """One layer with residual and ReLU, forward + backward."""

    layer: str
    shape: Shape
    dtype: str
    layout: str

    def __str__(self) -> str:
        return f"{self.layer} {'x'.join(map(str, self.shape))} {self.dtype} {self.layout}"


def groups(channels: int) -> int:
    return math.gcd(32, channels)


def shape_of_bytes(channels: int, height: int, dtype: str, least: int) -> Shape:
    """So many samples that a map has `least` bytes, rounded up to a multiple of 8 (few on tiny maps)."""
    samples = math.ceil(least / (channels * height * height * getattr(torch, dtype).itemsize))
    return (samples if samples < 8 else math.ceil(samples / 8) * 8, channels, height, height)
