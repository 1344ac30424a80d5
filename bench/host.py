"""What a call costs before any work: time per call on maps of one value a plane, where only the host counts.

On one thread. One channel, and two samples, since a batch of one value has no variance. Layers of groups don't have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

import fusednorm

from .calls import blank, contenders
from .case import Case, make_sets
from .contenders import Contender, step_of
from .harness import Sample, Step, interleave
from .names import Dtype, Kind, Layout, Mode, Section
from .plan import Plan
from .record import Record
from .timed import compared

SHAPE = (2, 1, 1, 1)
CALLS = 200  # timed as one
QUICK_CALLS, QUICK_ROUNDS = 50, 3


def run(plan: Plan) -> Iterator[Record]:
    """In every mode, for every form."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for form in plan.forms:
            for mode in Mode:
                case = Case(Section.host.value, SHAPE, Dtype.float32, Layout.nchw, form, mode, plan.device)
                yield from measure(plan, case)
    finally:
        torch.set_num_threads(threads)


def measure(plan: Plan, case: Case) -> list[Record]:
    """Every layer, and nn.BatchNorm2d, interleaved."""
    count, rounds = (QUICK_CALLS, QUICK_ROUNDS) if plan.quick else (CALLS, plan.rounds)
    found = contenders(case, plan.layers, plan.backends, Kind.fused, Kind.batch_norm)
    rows = {contender.name: many(contender, case, count) for contender in found}
    samples = {
        name: [Sample(s.seconds / count, s.page_faults) for s in taken]
        for name, taken in interleave(rows, rounds, warmup=1).items()
    }
    records = compared([blank(case, contender, threads=1) for contender in found], samples)
    return [replace(record, host_us=1e3 * record.median_ms) for record in records if record.median_ms is not None]


def many(contender: Contender, case: Case, count: int) -> Step:
    """So many calls in a row, until the last has ended on the device. The backend is chosen once for all of them."""
    backend: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    if contender.backend:
        name = contender.backend
        contender, backend = replace(contender, call=contender.module), lambda: fusednorm.use_backend(name)
    step = step_of(contender, make_sets(case)[0], case.form, case.mode)

    def calls_in_a_row() -> None:
        with backend():
            for _ in range(count):
                step()
        if case.device == "cuda":
            torch.cuda.synchronize()

    return calls_in_a_row
