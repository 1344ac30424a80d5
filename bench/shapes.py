"""Shapes of feature maps: what the normalization layers of known networks see, and how shapes are written.

Networks at 224x224 images, from their papers' tables. Their usual batch is 32 images a GPU; a CPU has 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

Shape = tuple[int, ...]
Map = tuple[int, int]  # channels; height, which is the width too

USUAL_BATCH = 32
CPU_BATCH = 8


def batch_for(device: str) -> int:
    return CPU_BATCH if device == "cpu" else USUAL_BATCH


def _resnet50() -> Iterator[Map]:
    """Stem; of each bottleneck 1x1, 3x3 (which has the stride), 1x1; the shortcut of each stage's first."""
    yield 64, 112
    size = 56
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            yield width, size
            size //= stride
            yield width, size
            yield 4 * width, size
            if block == 0:
                yield 4 * width, size


def _mobilenetv2() -> Iterator[Map]:
    """Stem; of each inverted residual the expansion (not in the first), depthwise, projection; the last 1x1."""
    stem, last = 32, 1280
    channels, size = stem, 112
    yield channels, size
    for expansion, out, blocks, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for block in range(blocks):
            hidden = expansion * channels
            if expansion > 1:
                yield hidden, size
            size //= stride if block == 0 else 1
            yield hidden, size
            yield out, size
            channels = out
    yield last, size


def _densenet121() -> Iterator[Map]:
    """Stem; of each dense layer the norm of all before it and that of the bottleneck; transitions; the last."""
    growth, bottleneck = 32, 128
    yield 64, 112
    channels, size = 64, 56
    stages = (6, 12, 24, 16)
    for stage, layers in enumerate(stages):
        for _ in range(layers):
            yield channels, size
            yield bottleneck, size
            channels += growth
        yield channels, size  # the transition's, or after the last stage the final one
        if stage < len(stages) - 1:
            channels, size = channels // 2, size // 2


_NETWORKS: dict[str, Callable[[], Iterator[Map]]] = {
    "resnet50": _resnet50,
    "mobilenetv2": _mobilenetv2,
    "densenet121": _densenet121,
}
LARGE = "large"
_LARGE: list[Shape] = [(16, 256, 56, 56), (32, 128, 28, 28)]

NAMED_SHAPES = (LARGE, *_NETWORKS)


def layer_counts(network: str, batch: int) -> dict[Shape, int]:
    """Distinct shapes that the network's normalization layers see -> how many layers see it."""
    counts = Counter(_NETWORKS[network]())
    return {(batch, channels, size, size): count for (channels, size), count in counts.items()}


def named_shapes(name: str, batch: int) -> list[Shape]:
    """Of a network at that batch, or the large ones, on which the project's targets are stated."""
    return list(_LARGE) if name == LARGE else list(layer_counts(name, batch))


def text(shape: Shape) -> str:
    return "x".join(str(size) for size in shape)


def parse_shapes(written: str, batch: int) -> list[Shape]:
    """`resnet50,2x4x8x8` -> the shapes, each once; ValueError says what is wrong."""
    shapes: dict[Shape, None] = {}
    for part in (part.strip() for part in written.split(",")):
        shapes.update(dict.fromkeys(named_shapes(part, batch) if part in NAMED_SHAPES else [_parse_shape(part)]))
    return list(shapes)


def _parse_shape(written: str, dims: int = 4) -> Shape:
    try:
        shape = tuple(int(size) for size in written.split("x"))
    except ValueError:
        raise ValueError(
            f"{written!r} is not a shape: write sizes joined by x, as in 16x64x56x56, or {', '.join(NAMED_SHAPES)}"
        ) from None
    if len(shape) != dims:
        raise ValueError(f"{written!r} has {len(shape)} dimensions, {dims} are needed, as in 16x64x56x56")
    if min(shape) < 1:
        raise ValueError(f"{written!r} has a size below 1")
    return shape
