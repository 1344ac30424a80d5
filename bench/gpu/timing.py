"""Time on the device by CUDA events, and inputs that no cache still holds from the call before."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from bench.harness import Measure, Sample, Step, on_cpu

T = TypeVar("T")

SETTLE = 3  # calls before the first measurement: kernels are compiled or loaded, memory is cached
HEAD_START = 1.3  # the GPU is kept busy for so many times what the host needs to queue a step
ROTATE_OVER = 3  # times the size of L2
MOST_SETS = 24


def measure_for(device: str, steps: Mapping[str, Step]) -> Measure:
    """How to time one call of a step there. Calls every step a few times."""
    for step in steps.values():
        for _ in range(SETTLE):
            step()
    if device == "cpu":
        return on_cpu
    torch.cuda.synchronize()
    return on_gpu(HEAD_START * max(_host_seconds(step) for step in steps.values()) + 20e-6)


def on_gpu(spin_seconds: float) -> Measure:
    """Time between two events. Before the first the GPU spins, so that the host is ahead of it for the whole step:

    what is measured is the device's time, as in a network whose queue is full, and not how fast Python calls.
    """
    cycles = int(spin_seconds * _clock_hertz())

    def measure(step: Step) -> Sample:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(cycles)
        start.record()
        step()
        end.record()
        end.synchronize()
        return Sample(start.elapsed_time(end) * 1e-3, 0)

    return measure


def _host_seconds(step: Step) -> float:
    """What the host needs to queue a step, at best, while the GPU has other work."""
    best = math.inf
    for _ in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    torch.cuda.synchronize()
    return best


def _clock_hertz() -> float:
    """The highest clock of the multiprocessors; torch.cuda._sleep counts its cycles."""
    return 1e3 * getattr(torch.cuda.get_device_properties(0), "clock_rate", 2_000_000)


def sets_needed(device: str, bytes_of_one: int) -> int:
    """So many sets of inputs, used in turn, that the cache has lost one when its turn comes again."""
    if device == "cpu":
        return 1
    cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20
    return min(MOST_SETS, max(2, math.ceil(ROTATE_OVER * cache / max(bytes_of_one, 1))))


def in_turn(steps: list[Step]) -> Step:
    """A step that is another of `steps` at each call."""
    turn: Callable[[], Step] = itertools.cycle(steps).__next__
    return lambda: turn()()


def captured(step: Step) -> Step:
    """The step as a CUDA graph; the warm-up on another stream is what capturing asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
