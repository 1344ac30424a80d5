"""From samples to records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .harness import Sample, quartiles, ratio_quartiles
from .names import Kind
from .record import Record

Samples = Mapping[str, Sequence[Sample]]


def timed(record: Record, samples: Sequence[Sample], bases: Samples) -> Record:
    """The record with its times and page faults, and its ratios to the bases, by their names."""
    low, median, high = quartiles(samples)
    return replace(
        record,
        rounds=len(samples),
        median_ms=median * 1e3,
        low_ms=low * 1e3,
        high_ms=high * 1e3,
        page_faults=statistics.median(sample.page_faults for sample in samples),
        ratios={name: ratio_quartiles(samples, base) for name, base in bases.items()},
    )


def compared(records: Iterable[Record], samples: Samples) -> list[Record]:
    """Timed, each with its ratio to its layer's fused ones; a contender of no layer, to all of them."""
    records = list(records)
    return [
        timed(
            record,
            samples[record.name],
            {base.name: samples[base.name] for base in records if _is_base(base, record)},
        )
        for record in records
    ]


def _is_base(base: Record, record: Record) -> bool:
    fused = Kind.fused.value
    return base.contender == fused != record.contender and record.layer in ("", base.layer)
