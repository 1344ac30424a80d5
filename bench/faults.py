"""What page faults cost: the same steps under settings of glibc's allocator, each in a process of its own.

default: what users have. keep: freed memory is kept, and no page faults twice. huge: the allocator asks for huge
pages (glibc 2.35 and later, where the system allows it): one fault gives 2 MiB.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from .allocator import Malloc, environment, is_glibc
from .calls import blank, contenders, steps, training
from .case import Case
from .child import Child
from .harness import Sample, Step, interleave
from .names import Kind, Layer, Section
from .plan import Plan
from .record import Record
from .timed import timed

QUICK_ROUNDS = 3
# Kept memory grows at first, since small blocks come to lie between the large ones until there is room for both. How
# many rounds that takes is chance (5 to 14 seen), so the warm-up lasts until it has settled:
SETTLED_ROUNDS = 4  # this many in a row, in which it
SETTLED_FAULTS = 100  # faulted fewer pages than this,
MAX_WARMUP = 50  # or this many rounds in all
KINDS = (Kind.fused, Kind.batch_norm)

Round = dict[str, dict[str, Sample]]  # by setting, contender

_HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

_steps: dict[str, Step] = {}  # a child's


def settings() -> dict[str, dict[str, str]]:
    """Name -> all of a process's variables."""
    default = environment(Malloc.default, dict(os.environ))
    return {
        Malloc.default.value: default,
        Malloc.keep.value: environment(Malloc.keep, default),
        "huge": default | _HUGE,
    }


def run(plan: Plan) -> Iterator[Record]:
    """Of the plan's first map. Records of other settings than keep have their ratio to the same with keep."""
    if plan.device != "cpu" or not is_glibc():
        return
    yield from measure(plan, training(plan, Section.faults, *plan.maps[0], plan.forms[-1]))


def measure(plan: Plan, case: Case) -> Iterator[Record]:
    """A round is one call of every contender in every process, one process after the other."""
    variables = settings()
    if plan.quick:
        del variables["huge"]
    with contextlib.ExitStack() as stack:
        children = {name: stack.enter_context(Child(own)) for name, own in variables.items()}
        started = [child.start(prepare, case, plan.layers, plan.backends, plan.threads) for child in children.values()]
        for preparation in started:  # together, since torch takes seconds to import
            preparation.result()
        warmup: list[Round] = []
        while len(warmup) < MAX_WARMUP and not settled(warmup):
            warmup.append(everywhere(children, len(warmup)))
        rounds = [everywhere(children, number) for number in range(QUICK_ROUNDS if plan.quick else plan.rounds)]
    for contender in contenders(case, plan.layers, plan.backends, *KINDS):
        taken = {name: [r[name][contender.name] for r in rounds] for name in variables}
        keep = taken[Malloc.keep.value]
        for name, of_setting in taken.items():
            record = replace(blank(case, contender, plan.threads), setting=name)
            yield timed(record, of_setting, {} if of_setting is keep else {record.name: keep})


def everywhere(children: Mapping[str, Child], number: int) -> Round:
    return {name: child.call(one_round, number) for name, child in children.items()}


def settled(rounds: Sequence[Round]) -> bool:
    """Whether kept memory has come to be enough."""
    last = [sum(sample.page_faults for sample in r[Malloc.keep.value].values()) for r in rounds[-SETTLED_ROUNDS:]]
    return len(last) == SETTLED_ROUNDS and max(last) < SETTLED_FAULTS


def prepare(case: Case, layers: Sequence[Layer], backends: Sequence[str], threads: int) -> None:
    """In a child, before the first round."""
    torch.set_num_threads(threads)
    _steps.update(steps(case, contenders(case, layers, backends, *KINDS)))


def one_round(number: int) -> dict[str, Sample]:
    """In a child: every contender once."""
    return {name: taken[0] for name, taken in interleave(_steps, 1, warmup=0, seed=number).items()}
