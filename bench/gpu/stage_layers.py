"""Forward + backward of every layer with residual and ReLU, on ResNet-50's maps and over a sweep of sizes."""

from __future__ import annotations

from itertools import product

from bench.names import LAYOUTS

from .cases import FURTHER, LAYERS, RESNET, TYPES, Case
from .setting import Setting
from .training import measure, modules

BATCH = 64
SWEEP = (1, 2, 4, 8, 16, 32, 128)
AN = "AttentiveBatchNorm2d"


def run(setting: Setting) -> None:
    rounds = 3 if setting.dry else 10 if setting.quick else 25
    found = cases(setting.dry, setting.quick)
    setting.each(found, lambda case: measure(setting, case, modules(setting, case), rounds, "layer"))


def cases(dry: bool, quick: bool) -> list[Case]:
    """The headline's shape first, each layer in everything, the other papers' in two types; then attentive BatchNorm on
    all shapes; then the rest."""
    if dry:
        return [
            Case(layer, (4, 8, 6, 6), "bfloat16", layout)
            for layer in LAYERS
            for layout in (LAYOUTS if layer == AN else ["nchw"])
        ] + [Case(layer.value, (4, 8, 6, 6), "bfloat16", "channels_last") for layer in FURTHER]
    shapes = [(BATCH, channels, height, height) for channels, height in RESNET]
    found = [Case(layer, shapes[0], *rest) for layer, *rest in product(LAYERS, TYPES, LAYOUTS)]
    found += [Case(layer.value, shapes[0], *rest) for layer, *rest in product(FURTHER, TYPES[:2], LAYOUTS)]
    if quick:
        return found
    found += [Case(AN, shape, *rest) for shape, *rest in product(shapes[1:], TYPES, LAYOUTS)]
    found += [Case(AN, (batch, *shapes[0][1:]), *rest) for batch, *rest in product(SWEEP, TYPES[:2], LAYOUTS)]
    others = [layer for layer in LAYERS if layer != AN]
    found += [Case(layer, shape, *rest) for layer, shape, *rest in product(others, shapes[1:], TYPES, LAYOUTS)]
    return found
