"""What one training step of each contender costs: time and memory."""

import os
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

Step = Callable[[], object]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class StepTime:
    """Milliseconds. A median far above the fastest means that other work shared the machine."""

    median: float
    fastest: float


def step_times(
    steps: Mapping[Name, Step], rounds: int, on_round: Callable[[], object] = lambda: None
) -> dict[Name, StepTime]:
    """Every round runs each contender once, in a new order, so that noise hits all alike."""
    times: dict[Name, list[float]] = {name: [] for name in steps}
    order = list(steps)
    shuffle = random.Random(0).shuffle
    for step in steps.values():
        step()
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            steps[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
        on_round()
    return {name: StepTime(statistics.median(values), min(values)) for name, values in times.items()}


def peak_memory(step: Step) -> int:
    """The most bytes that tensors born in the step held at one time, as PyTorch's allocator reports them.

    What was there before (weights, optimizer state, the crops) is not in it. Nor is what libraries ask the
    system for behind PyTorch's back, which is the same for all contenders: they share the convolutions.
    """
    # The profiler would write lines of its own to the terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True, use_kineto=False) as profile:
        step()
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
