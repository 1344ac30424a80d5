"""Memory: what is saved for backward, and the peak of a training step.

The peak on the CPU is that of resident memory, so that what native kernels allocate is seen too. It takes a process
whose allocator gives every freed block back at once (`GIVING_BACK`), and Linux, which tells the peak since it was
last asked to forget it. It is exact to some hundred KiB, as the kernel counts pages.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from .calls import blank, contenders, steps, training
from .case import Case, make_sets
from .child import Child
from .contenders import Contender
from .harness import Step
from .names import Kind, Layer, Section
from .plan import Plan
from .record import Record

GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def run(plan: Plan) -> Iterator[Record]:
    """Of the plan's first map; in its first layout, since the other keeps as much."""
    layers = plan.layers[:1] if plan.quick else plan.layers
    kinds = (Kind.fused, Kind.reference, Kind.batch_norm)
    shape, dtype = plan.maps[0]
    with peak_meter(plan.device, plan.threads) as peak:
        for form in plan.forms:
            case = training(plan, Section.memory, shape, dtype, form)
            for contender in contenders(case, layers, plan.backends, *kinds):
                yield replace(
                    blank(case, contender, plan.threads),
                    saved_bytes=saved_by(case, contender),
                    peak_bytes=peak(only_step, case, contender.layer, contender.kind, contender.backend),
                )


def only_step(case: Case, layer: str, kind: Kind, backend: str) -> Step:
    """Of a contender in another process, to which it can't be sent."""
    (step,) = steps(case, contenders(case, [Layer(layer)] if layer else [], [backend], kind)).values()
    return step


def saved_by(case: Case, contender: Contender) -> int:
    call, module = contender.call, contender.module
    return saved_bytes(call, make_sets(case)[0].arguments(case.form), [*module.parameters(), *module.buffers()])


def saved_bytes(call: Callable[..., object], arguments: Sequence[Tensor], model: Sequence[Tensor] = ()) -> int:
    """Bytes that autograd keeps from a call until its backward; each storage once, those of the model not.

    x counts where it is kept, though it is alive anyway, and so does the output that ReLU keeps.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in model}
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        call(*arguments)
    return sum(kept.values())


@contextlib.contextmanager
def peak_meter(device: str, threads: int) -> Iterator[Callable[..., int | None]]:
    """A function of (make_step, *arguments): `peak_bytes` of make_step(*arguments), where that holds.

    On the CPU that is a process of its own, to which both are pickled.
    """
    if device != "cpu":
        yield lambda make_step, *arguments: peak_bytes(make_step(*arguments), device)
        return
    with Child({**os.environ, **GIVING_BACK}) as child:
        child.call(torch.set_num_threads, threads)
        yield lambda *arguments: child.call(_peak_of, *arguments)


def _peak_of(make_step: Callable[..., Step], *arguments: object) -> int | None:
    return peak_bytes(make_step(*arguments))


def peak_bytes(step: Step, device: str = "cpu") -> int | None:
    """How far memory in use rises during a step, above what it was before; None where that can't be known."""
    for _ in range(2):  # what is kept from then on is not the step's
        step()
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        _FORGET.write_text("5")  # VmHWM starts again from VmRSS
    except OSError:  # another system
        return None
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10
