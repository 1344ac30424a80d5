"""What has a name on the command line; each value is that name."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeVar


class Layer(str, Enum):
    """The layers that have a benchmark."""

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


class Dtype(str, Enum):
    """Types of the feature maps; each value is torch's name. Parameters stay float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Form(str, Enum):
    """What is around the layer: nothing, or a residual and ReLU."""

    bare = "bare"
    residual_relu = "residual+relu"


class Mode(str, Enum):
    """train: forward + backward. forward: in training, with the graph that backward needs. eval: without gradients."""

    train = "train"
    forward = "forward"
    eval = "eval"


class Kind(str, Enum):
    """Kinds of contenders. nn.BatchNorm2d is followed by what the form asks for, as models write it."""

    fused = "fused"
    reference = "reference"
    compiled = "compiled"
    max_autotune = "compiled max-autotune"
    official = "official"
    batch_norm = "BatchNorm2d"
    compiled_batch_norm = "compiled BatchNorm2d"
    group_norm = "GroupNorm"
    inplace_abn = "inplace-abn"
    copy = "copy"


class Section(str, Enum):
    """Parts of the benchmark, in the order in which they run."""

    layers = "layers"
    sweep = "sweep"
    host = "host"
    memory = "memory"
    threads = "threads"
    faults = "faults"
    networks = "networks"


class Layout(str, Enum):
    """Memory layouts."""

    nchw = "nchw"
    channels_last = "channels_last"


LAYOUTS: dict[str, str] = {"nchw": "contiguous_format", "channels_last": "channels_last"}  # -> torch's memory format

ALL = "all"  # every one, in place of a list

E = TypeVar("E", bound=Enum)


def parse_names(text: str, known: type[E], what: str) -> tuple[E, ...]:
    """`an,sn` -> (Layer.an, Layer.sn), `all` -> all; ValueError names the unknown one."""
    if text == ALL:
        return tuple(known)
    return tuple(known(name) for name in checked_names(text, [member.value for member in known], what))


def checked_names(text: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    known = list(known)
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is not a {what}: choose from {', '.join(known)}, or {ALL} for all")
    return names
