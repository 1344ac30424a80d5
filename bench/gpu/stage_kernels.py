"""Bandwidth of the streaming kernels, called as operators, as a fraction of a copy's in the same rounds.

Bytes are the floor's (bench/floor.py): forward 3 units of x's bytes, 4 with a residual; backward 5, or 6 with
dresidual. The copy, from device to device, is one of x: 2 units. "forward" is plane_moments and plane_affine,
"backward" plane_affine_reduce and plane_affine_grad; "norm_forward" and "norm_backward" are a whole BatchNorm layer in
one operator, its head included.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.harness import Sample, Step, interleave, quartiles
from bench.names import LAYOUTS
from fusednorm.engine import native
from fusednorm.engine.function import Spec
from fusednorm.heads import Affine, Batch, Head

from .cases import TYPES, shape_of_bytes
from .setting import Setting
from .stage_stamp import smi
from .timing import in_turn, measure_for, sets_needed

MIB = 1 << 20
BYTES = 128 * MIB  # at least, of one map
SIDES = ((256, 56), (64, 112), (512, 28), (1024, 14), (2048, 7))  # channels and height: ResNet-50's
COPY = "copy"
ACT = "relu"


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...]
    dtype: str
    layout: str
    residual: bool

    def __str__(self) -> str:
        extra = " residual" if self.residual else ""
        return f"{'x'.join(map(str, self.shape))} {self.dtype} {self.layout}{extra}"


def cases(setting: Setting) -> list[Case]:
    """One shape in everything first, then the others."""
    sides = ((16, 8),) if setting.dry else SIDES[:1] if setting.quick else SIDES
    return [
        Case(shape_of_bytes(*side, dtype, 1 if setting.dry else BYTES), dtype, layout, residual)
        for side in sides
        for residual in (False, True)
        for dtype in (TYPES[:1] if setting.dry else TYPES)
        for layout in LAYOUTS
    ]


def run(setting: Setting) -> None:
    setting.each(cases(setting), lambda case: measure(setting, case))
    if not setting.dry:
        setting.write(kind="clocks", after=smi())


def measure(setting: Setting, case: Case) -> None:
    maps_of_x = 4 if case.residual else 3
    bytes_of_x = torch.Size(case.shape).numel() * getattr(torch, case.dtype).itemsize
    sets = [Maps(case, setting.device) for _ in range(sets_needed(setting.device, maps_of_x * bytes_of_x))]
    steps: dict[str, Step] = {COPY: in_turn([one.copy for one in sets])}
    units = {COPY: 2}
    for backend in setting.backends():
        prepared = [one.steps(backend) for one in sets]
        for name, (_, count) in prepared[0].items():
            steps[f"{backend} {name}"] = in_turn([steps_of_one[name][0] for steps_of_one in prepared])
            units[f"{backend} {name}"] = count
    rounds = 3 if setting.dry else 15 if setting.quick else 40
    samples = interleave(steps, rounds, warmup=3, measure=measure_for(setting.device, steps))
    for name in steps:
        setting.write(
            kind="kernel",
            **vars(case),
            name=name,
            mib=round(bytes_of_x / MIB, 1),
            units=units[name],
            **summary(samples[name], samples[COPY], units[name], bytes_of_x),
        )


def summary(samples: list[Sample], copies: list[Sample], units: int, bytes_of_x: int) -> dict[str, float]:
    """Times, bytes a second, and the median over the rounds of bandwidth over the copy's."""
    low, median, high = quartiles(samples)
    fractions = [
        Sample(units / 2 * copy.seconds / sample.seconds, 0) for sample, copy in zip(samples, copies, strict=True)
    ]
    return {
        "us": median * 1e6,
        "low_us": low * 1e6,
        "high_us": high * 1e6,
        "gb_per_s": units * bytes_of_x / median / 1e9,
        "of_copy": quartiles(fractions).median,
    }


class Maps:
    """One set of inputs of all kernels."""

    def __init__(self, case: Case, device: str) -> None:
        dtype = getattr(torch, case.dtype)
        layout = getattr(torch, LAYOUTS[case.layout])

        def normal(*size: int) -> Tensor:
            return torch.randn(size, device=device)

        def full() -> Tensor:
            return normal(*case.shape).to(dtype).contiguous(memory_format=layout)

        self.planes = case.shape[:2]
        self.x, self.dy = full(), full()
        self.residual = full() if case.residual else None
        self.target = torch.empty_like(self.x)
        self.center, self.scale, self.shift, self.a, self.b = (normal(*self.planes) for _ in range(5))
        self.weight, self.bias = normal(self.planes[1]), normal(self.planes[1])

    def copy(self) -> Tensor:
        return self.target.copy_(self.x)

    def steps(self, backend: str) -> dict[str, tuple[Step, int]]:
        """Name -> what to call, and its units."""
        extra = 1 if self.residual is not None else 0
        moments, affine, reduce, grad = (self._kernel(backend, name) for name in KERNELS)

        def both(first: Step, second: Step) -> Step:
            return lambda: (first(), second())

        found: dict[str, tuple[Step, int]] = {
            "forward": (both(moments, affine), 3 + extra),
            "backward": (both(reduce, grad), 5 + extra),
            "plane_moments": (moments, 1),
            "plane_affine": (affine, 2 + extra),
            "plane_affine_reduce": (reduce, 2 + extra),
            "plane_affine_grad": (grad, 3),
        }
        if hasattr(torch.ops.fusednorm.norm_forward, backend):
            forward, backward = self._layer(backend)
            found |= {"norm_forward": (forward, 3 + extra), "norm_backward": (backward, 5 + extra)}
        return found

    def _kernel(self, backend: str, name: str) -> Step:
        operator: Callable[..., Any] = getattr(getattr(torch.ops.fusednorm, name), backend)
        x, dy, residual = self.x, self.dy, self.residual
        planes = (self.center, self.scale, self.shift)
        masked = residual is not None
        if name == "plane_moments":
            return lambda: operator(x)
        if name == "plane_affine":
            return lambda: operator(x, *planes, residual, ACT, masked)
        if name == "plane_affine_reduce":
            affine = getattr(torch.ops.fusednorm.plane_affine, backend)
            mask = affine(x, *planes, residual, ACT, True)[1] if masked else None
            return lambda: operator(dy, x, *planes, None, mask, ACT, masked)
        # With a residual the reduce pass has multiplied dy already.
        act = "identity" if masked else ACT
        return lambda: operator(dy, x, *planes, None, None, self.a, self.b, act)

    def _layer(self, backend: str) -> tuple[Step, Step]:
        """BatchNorm with batch statistics: schemas in fusednorm/engine/operators.py."""
        packets = torch.ops.fusednorm.norm_forward, torch.ops.fusednorm.norm_backward
        forward, backward = (getattr(packet, backend) for packet in packets)
        x, dy, residual = self.x, self.dy, self.residual
        masked = residual is not None
        spec = Spec(Head(Batch(), Affine()), ACT, backend)
        layer = native.layer_arguments(spec, (self.weight, self.bias))
        _, mask, *kept = forward(x, residual, *layer, masked)[:7]
        saved = (None, mask if masked else None)
        return (
            lambda: forward(x, residual, *layer, masked),
            lambda: backward(dy, x, *saved, *kept, *layer, True, masked),
        )


KERNELS = ("plane_moments", "plane_affine", "plane_affine_reduce", "plane_affine_grad")
