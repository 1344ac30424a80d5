"""The stages, the most important first, and how the budget of time is divided among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A module of this package with a function `run(setting)`."""

    name: str
    what: str
    weight: float  # its share of the time that is left, among the stages that are left
    least_s: float  # not started with less


# The build's share is far above its need: without it nothing that follows is worth much. What it leaves goes to them.
STAGES = [
    Stage("stamp", "what the machine is", 20, 5),
    Stage("build", "the native extensions, for this GPU alone", 400, 30),
    Stage("check", "every layer against float64", 40, 15),
    Stage("kernels", "bandwidth of the streaming kernels, as a fraction of a copy's", 60, 15),
    Stage("layers", "forward + backward of every layer against BatchNorm and the floor", 110, 20),
    Stage("host", "calls a second on tiny maps, eager and replayed as a CUDA graph", 25, 15),
    Stage("compiled", "the same against torch.compile of the reference", 60, 40),
    Stage("tests", "pytest tests/gpu", 130, 20),
    Stage("sanitizer", "compute-sanitizer on all kernels", 60, 25),
]

STOP_S = 3.0  # a stage is asked to end by itself this long before it is ended


def share(stage: Stage, after: Sequence[Stage], remaining: float) -> float | None:
    """Seconds for `stage` of the `remaining` ones, when the stages `after` it are still to come; None: too little."""
    if remaining < stage.least_s:
        return None
    return max(stage.least_s, remaining * stage.weight / (stage.weight + sum(other.weight for other in after)))
