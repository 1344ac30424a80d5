"""What is measured unless told otherwise, and how shapes and layouts are written on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Shape = tuple[int, ...]


class Layer(str, Enum):
    """The layers that have a benchmark. The value is the name on the command line."""

    an = "an"
    an_gn = "an-gn"
    bn = "bn"
    gn = "gn"
    rbn = "rbn"
    rbn_std = "rbn-std"
    rbn_center_spatial = "rbn-center-spatial"
    rbn_scale_spatial = "rbn-scale-spatial"
    sn = "sn"
    na = "na"
    na_code = "na-code"
    na_bn = "na-bn"
    se = "se"
    se_bn = "se-bn"
    eca = "eca"
    srm = "srm"
    ge = "ge"
    iebn = "iebn"
    frn = "frn"
    grn = "grn"


ALL = "layers"  # on the command line: every layer


class Dtype(str, Enum):
    """Types of the feature maps; each value is torch's name. Parameters stay float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(frozen=True)
class Plan:
    """What to measure, and how often."""

    layers: list[Layer]
    shapes: list[Shape]
    layouts: list[str]
    dtype: Dtype
    rounds: int
    compiled: bool
    compiled_batch_norm: bool


# ResNet's first stage at batch 16: the wide maps of its bottlenecks and the narrow ones inside them.
SHAPES: list[Shape] = [(16, 256, 56, 56), (16, 64, 56, 56)]
QUICK_SHAPES: list[Shape] = [(16, 64, 56, 56)]

# Name on the command line -> torch's memory format.
LAYOUTS: dict[str, str] = {"nchw": "contiguous_format", "channels_last": "channels_last"}


def parse_shapes(text: str, dims: int = 4) -> list[Shape]:
    """`16x64x56x56,2x4x8x8` -> [(16, 64, 56, 56), (2, 4, 8, 8)]; ValueError says what is wrong."""
    return [_parse_shape(part.strip(), dims) for part in text.split(",")]


def _parse_shape(text: str, dims: int) -> Shape:
    try:
        shape = tuple(int(size) for size in text.split("x"))
    except ValueError:
        raise ValueError(f"{text!r} is not a shape: write sizes joined by x, as in 16x64x56x56") from None
    if len(shape) != dims:
        raise ValueError(f"{text!r} has {len(shape)} dimensions, {dims} are needed, as in 16x64x56x56")
    if min(shape) < 1:
        raise ValueError(f"{text!r} has a size below 1")
    return shape


def parse_layers(text: str) -> list[Layer]:
    """`an`, `rbn,sn` or `layers`, for all; ValueError names the unknown one."""
    if text == ALL:
        return list(Layer)
    known = {layer.value: layer for layer in Layer}
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not a layer: choose from {', '.join(known)}, or {ALL} for all")
    return [known[name] for name in names]


def parse_layouts(text: str) -> list[str]:
    """`nchw,channels_last` -> ["nchw", "channels_last"]; ValueError names the unknown one."""
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in LAYOUTS:
            raise ValueError(f"{name!r} is not a layout: choose from {', '.join(LAYOUTS)}")
    return names
