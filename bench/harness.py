"""Interleaved measuring. Knows callables and clocks, nothing of layers, tensors or torch."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # Windows has no such count

    def page_faults() -> int:
        return 0
else:

    def page_faults() -> int:
        """Pages of fresh memory that this process has been given until now."""
        return getrusage(RUSAGE_SELF).ru_minflt


class Sample(NamedTuple):
    """One call of one contender."""

    seconds: float
    page_faults: int


class Quartiles(NamedTuple):
    low: float
    median: float
    high: float


Step = Callable[[], object]
Measure = Callable[[Step], Sample]


def on_cpu(step: Step) -> Sample:
    """Runs `step` once against the wall clock. Other devices need another function of this kind."""
    faults = page_faults()
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    return Sample(seconds, page_faults() - faults)


def interleave(
    steps: Mapping[str, Step], rounds: int, *, warmup: int = 5, measure: Measure = on_cpu, seed: int = 0
) -> dict[str, list[Sample]]:
    """Runs every contender once a round; returns each one's samples, by round.

    A machine that slows down for a while then slows every contender alike, and ratios taken within a
    round hold. The order is shuffled anew for each round, so that none always finds the caches as the
    same other one left them. Warm-up rounds are run the same way, since the allocator settles only
    after it has seen the requests in several orders, and are thrown away.
    """
    order = list(steps)
    shuffle = random.Random(seed).shuffle
    samples: dict[str, list[Sample]] = {name: [] for name in steps}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for number in range(warmup + rounds):
            shuffle(order)
            for name in order:
                sample = measure(steps[name])
                if number >= warmup:
                    samples[name].append(sample)
    finally:
        if collecting:
            gc.enable()
    return samples


def quartiles(samples: Sequence[Sample]) -> Quartiles:
    """Quartiles of the seconds; at least two samples."""
    return _quartiles(s.seconds for s in samples)


def ratio_quartiles(samples: Sequence[Sample], base: Sequence[Sample]) -> Quartiles:
    """Quartiles over the rounds of (seconds of one contender / seconds of the base in the same round)."""
    return _quartiles(s.seconds / b.seconds for s, b in zip(samples, base, strict=True))


def median_ratio(samples: Sequence[Sample], base: Sequence[Sample]) -> float:
    return ratio_quartiles(samples, base).median


def _quartiles(values: Iterable[float]) -> Quartiles:
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))
