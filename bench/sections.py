"""The sections, each a module with `run(plan)`, that yields records."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator

from .names import Section
from .plan import Plan
from .record import Record

_MODULES = {Section.layers: "layer_section"}  # the others' have their names

WHAT = {
    Section.layers: "every shape, all contenders",
    Section.sweep: "bandwidth over size",
    Section.host: "time of calls on maps of few elements",
    Section.memory: "bytes saved for backward, peak of a step",
    Section.threads: "one thread against all",
    Section.faults: "what the allocator's settings cost",
    Section.networks: "training steps of whole networks",
}


def runner(section: Section) -> Callable[[Plan], Iterator[Record]]:
    """Imported here, since torch takes seconds to."""
    module = importlib.import_module(f".{_MODULES.get(section, section.value)}", __package__)
    run: Callable[[Plan], Iterator[Record]] = module.run
    return run
