"""Maps so small that the calls count: microseconds a call, eager, and replayed as a CUDA graph."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

import fusednorm.reference
from bench.contenders import Inputs, make_inputs
from bench.harness import Measure, Sample, Step, interleave, quartiles

from .cases import LAYERS, Case
from .setting import Setting, first_line
from .timing import captured
from .training import modules, step_of

CALLS = 50  # timed as one


@dataclass(frozen=True)
class Tiny(Case):
    """A layer's case, run one way."""

    way: str  # "forward" (without gradients), "forward + backward", "graph" (the latter, replayed)

    def __str__(self) -> str:
        return f"{super().__str__()}, {self.way}"


def run(setting: Setting) -> None:
    ways = ["forward + backward", "forward"] + ([] if setting.dry else ["graph"])
    shapes = [(2, 8, 4, 4)] if setting.dry else [(8, 64, 8, 8), (2, 64, 4, 4), (32, 256, 14, 14)]
    found = [
        Tiny(layer, shape, "float32", "nchw", way)
        for shape in shapes[: 1 if setting.quick else None]
        for way in ways
        for layer in LAYERS
    ]
    setting.each(found, lambda case: measure(setting, case))


def measure(setting: Setting, case: Tiny) -> None:
    inputs = make_inputs(case.shape, getattr(torch, case.dtype), case.layout, device=setting.device)
    contenders = modules(setting, case)
    reference = LAYERS[case.layer](fusednorm.reference, case.shape[1]).to(setting.device)
    contenders["reference"] = (reference, None)
    steps: dict[str, Step] = {}
    for name, (module, backend) in contenders.items():
        step = step_of(module, backend, inputs)
        if case.way == "forward":
            step = forward_of(module, backend, inputs)
        try:
            steps[name] = captured(step) if case.way == "graph" else step
        except RuntimeError as error:  # what one contender does can't be captured: the others are measured
            setting.write(kind="problem", case=f"{case}, {name}", text=first_line(error))
    rounds = 3 if setting.dry else 15
    samples = interleave(steps, rounds, warmup=2, measure=many_calls(setting.device, 2 if setting.dry else CALLS))
    rows = {}
    for name, taken in samples.items():
        low, median, high = quartiles(taken)
        rows[name] = {"us": median * 1e6, "low_us": low * 1e6, "high_us": high * 1e6, "calls_per_s": 1 / median}
    setting.write(kind="host", **vars(case), rounds=rounds, rows=rows)


def forward_of(module: torch.nn.Module, backend: str | None, inputs: Inputs) -> Step:
    def forward() -> object:
        with torch.no_grad():
            return module(inputs.x, inputs.residual)

    def on_backend() -> object:
        with fusednorm.use_backend(str(backend)):
            return forward()

    return forward if backend is None else on_backend


def many_calls(device: str, calls: int) -> Measure:
    """Seconds a call of many in a row, until the last has ended on the device."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)

    def measure_step(step: Step) -> Sample:
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            step()
        wait()
        return Sample((time.perf_counter() - start) / calls, 0)

    return measure_step
