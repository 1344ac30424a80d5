"""Section `sweep`: one layer from maps of 16 KiB to maps that no cache holds; the bandwidth that each size reaches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch

from .case import Case, measure
from .names import Dtype, Form, Kind, Layer, Mode, Section
from .plan import Plan
from .record import Record
from .shapes import Shape

CHANNELS = 64
SIDES = (8, 16, 32)  # of planes; the greatest with which there are SAMPLES
SAMPLES = 4  # attention's batch norm over fewer makes gradients of nothing but rounding

SMALLEST = 16 << 10
LARGEST = {"cpu": 256 << 20, "cuda": 2 << 30}
QUICK_LARGEST = 16 << 20
QUICK_STEP = 8

KINDS = (Kind.fused, Kind.compiled, Kind.batch_norm, Kind.copy)
LAYER = Layer.an
FORM = Form.residual_relu


def run(plan: Plan) -> Iterator[Record]:
    """In float32, forward + backward. A quick run compiles nothing."""
    kinds = [kind for kind in KINDS if kind in plan.kinds and not (plan.quick and kind is Kind.compiled)]
    largest = QUICK_LARGEST if plan.quick else LARGEST[plan.device]
    for layout, size in product(plan.layouts, sizes(largest, QUICK_STEP if plan.quick else 2)):
        shape = shape_of(size, torch.float32)
        case = Case(Section.sweep.value, shape, Dtype.float32, layout, FORM, Mode.train, plan.device)
        yield from measure(case, [LAYER], kinds, plan.backends[:1], plan.rounds)


def sizes(largest: int, step: int = 2) -> list[int]:
    """Bytes of x."""
    found = [SMALLEST]
    while found[-1] * step <= largest:
        found.append(found[-1] * step)
    return found


def shape_of(size: int, dtype: torch.dtype) -> Shape:
    """A map of exactly `size` bytes, a power of 2."""
    positions = size // dtype.itemsize // CHANNELS
    side = max((side for side in SIDES if side * side * SAMPLES <= positions), default=SIDES[0])
    samples = positions // side**2
    if samples < SAMPLES:
        return SAMPLES, size // dtype.itemsize // (SAMPLES * side**2), side, side
    return samples, CHANNELS, side, side
