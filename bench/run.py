"""Runs one benchmark: builds the contenders, checks that they agree, measures them, sums up."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch._dynamo.utils import counters

from . import agreement
from .contenders import (
    COPY,
    FUSED,
    REFERENCE,
    Contender,
    Inputs,
    copy_step,
    make_contenders,
    make_inputs,
    training_step,
    without_act,
)
from .floor import COPY_UNITS, floor_seconds, floor_units
from .harness import Sample, interleave, median_ratio, quartiles
from .layers import LAYERS
from .report import Result, Row
from .shapes import Layer, Plan, Shape


def run(plan: Plan) -> Iterator[Result]:
    """One result for each shape and layout, as soon as it is there."""
    for layer in plan.layers:
        for shape in plan.shapes:
            for layout in plan.layouts:
                yield _run_case(plan, layer, shape, layout)


def _run_case(plan: Plan, layer: Layer, shape: Shape, layout: str) -> Result:
    # A clean cache for each case: otherwise a second shape would be compiled as a dynamic one, and every
    # call would check the guards of all the shapes before it.
    torch._dynamo.reset()
    inputs = make_inputs(shape, getattr(torch, plan.dtype.value), layout)
    contenders = make_contenders(layer, shape[1], compiled=plan.compiled, compiled_batch_norm=plan.compiled_batch_norm)
    differences = check(plan, layer, contenders, inputs)

    steps = {contender.name: training_step(contender.module, inputs) for contender in contenders}
    steps[COPY] = copy_step(inputs)
    for step in steps.values():
        step()  # compiles whatever the check did not
    with torch.compiler.set_stance("fail_on_recompile"):
        samples = interleave(steps, plan.rounds)
    return _sum_up(plan, layer, shape, layout, inputs, samples, differences)


def check(plan: Plan, layer: Layer, contenders: list[Contender], inputs: Inputs) -> dict[str, float]:
    """Runs every contender once; returns the differences from the reference by contender's name."""
    (reference,) = (contender.module for contender in contenders if contender.name == REFERENCE)
    tolerance = agreement.TOLERANCE[plan.dtype]
    with torch.no_grad():
        z = without_act(layer, reference, inputs.x.shape[1])(inputs.x, inputs.residual)
    inputs = replace(inputs, dy=agreement.away_from_kink(inputs.dy, z, tolerance))
    expected = agreement.results(reference, inputs)

    differences = {}
    for contender in contenders:
        graphs = counters["stats"]["unique_graphs"]
        got = agreement.results(contender.module, inputs)
        # Where compiling is switched off (TORCH_COMPILE_DISABLE), torch.compile silently does nothing.
        if contender.compiled and counters["stats"]["unique_graphs"] != graphs + 1:
            raise RuntimeError(f"{contender.name} was not compiled into one graph")
        if contender.same_function and contender.module is not reference:
            tensor, difference = agreement.max_difference(got, expected)
            if not difference <= tolerance:
                raise agreement.DisagreementError(
                    f"{contender.name} disagrees with the reference: {tensor} is off by {difference:.1e} "
                    f"of its largest value, {tolerance:.0e} is allowed"
                )
            differences[contender.name] = difference
    return differences


def _sum_up(
    plan: Plan,
    layer: Layer,
    shape: Shape,
    layout: str,
    inputs: Inputs,
    samples: dict[str, list[Sample]],
    differences: dict[str, float],
) -> Result:
    entry = LAYERS[layer]
    units = floor_units(residual=True, forward_units=entry.forward, backward_units=entry.backward)
    copies = samples[COPY]
    floors = [Sample(floor_seconds(units, copy.seconds), copy.page_faults) for copy in copies]
    floor = quartiles(floors).median
    rows = []
    for name, taken in {**samples, f"floor ({units} units)": floors}.items():
        if name == COPY:  # told by the floor, which is the same in other units
            continue
        low, median, high = quartiles(taken)
        rows.append(
            Row(
                name=name,
                median_ms=median * 1e3,
                low_ms=low * 1e3,
                high_ms=high * 1e3,
                over_fused=median_ratio(taken, samples[FUSED]),
                over_floor=median / floor,
                page_faults=statistics.median(sample.page_faults for sample in taken),
                max_difference=differences.get(name),
            )
        )
    bytes_of_x = inputs.x.nbytes
    return Result(
        layer=layer.value,
        shape=shape,
        dtype=plan.dtype.value,
        layout=layout,
        rounds=plan.rounds,
        bytes_of_x=bytes_of_x,
        copy_gb_per_s=COPY_UNITS * bytes_of_x / quartiles(copies).median / 1e9,
        floor_units=units,
        floor_ms=floor * 1e3,
        rows=rows,
    )
