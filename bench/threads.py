"""What further threads are worth: large maps on one thread and on all of them, interleaved in one process.

The copy is measured alike: what bandwidth gains is the most that a layer which only moves memory can gain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from .calls import blank, contenders, steps, training
from .case import Case, make_sets
from .contenders import copy_step
from .floor import COPY_UNITS
from .harness import Sample, Step, interleave, on_cpu
from .names import Kind, Section
from .plan import Plan
from .record import Record
from .timed import timed

QUICK_ROUNDS = 3


@dataclass(frozen=True)
class OnThreads:
    """A step, and on how many threads it has to run."""

    step: Step
    threads: int

    def __call__(self) -> object:
        return self.step()


def run(plan: Plan) -> Iterator[Record]:
    """Of the plan's first two maps. Records on one thread have their ratio to the same on all: the speed-up."""
    if plan.device != "cpu" or plan.threads == 1:
        return
    for shape, dtype in plan.maps[: 1 if plan.quick else 2]:
        for layout in plan.layouts[: 1 if plan.quick else None]:
            case = replace(training(plan, Section.threads, shape, dtype, plan.forms[-1]), layout=layout)
            yield from measure(plan, case)


def measure(plan: Plan, case: Case) -> Iterator[Record]:
    found = contenders(case, plan.layers, plan.backends, Kind.fused, Kind.batch_norm)
    records = [blank(case, contender, plan.threads) for contender in found]
    records.append(replace(records[-1], contender=Kind.copy.value))
    to_run = {**steps(case, found), Kind.copy.value: copy_step(make_sets(case)[0])}

    both = {f"{name} {n}": OnThreads(step, n) for name, step in to_run.items() for n in (1, plan.threads)}
    samples = interleave(both, QUICK_ROUNDS if plan.quick else plan.rounds, warmup=1, measure=on_its_threads)
    for record in records:
        on_one, on_all = (samples[f"{record.name} {n}"] for n in (1, plan.threads))
        yield _with_bandwidth(timed(replace(record, threads=1), on_one, {record.name: on_all}))
        yield _with_bandwidth(timed(record, on_all, {}))


def _with_bandwidth(record: Record) -> Record:
    if record.contender != Kind.copy.value or record.median_ms is None or record.bytes_of_x is None:
        return record
    return replace(record, copy_gb_per_s=COPY_UNITS * record.bytes_of_x / record.median_ms / 1e6)


def on_its_threads(step: Step) -> Sample:
    """The first call on another number of threads may start some, and is not timed."""
    assert isinstance(step, OnThreads)
    before = torch.get_num_threads()
    torch.set_num_threads(step.threads)
    try:
        step()
        return on_cpu(step)
    finally:
        torch.set_num_threads(before)
