"""Records brought together: by table, by contender, to a mean."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .names import Kind
from .record import Record


@dataclass(frozen=True)
class Group:
    """One fused layer under one setting: a table with a row for each shape."""

    fused: str  # "an cpu"
    records: list[Record]  # its own, in the order of the shapes, and those that have a ratio to it

    @property
    def own(self) -> list[Record]:
        return [record for record in self.records if record.name == self.fused]

    @property
    def rivals(self) -> list[str]:
        names = dict.fromkeys(record.name for record in self.records)
        return [name for name in names if name not in (self.fused, Kind.copy.value)]

    def rival(self, name: str, own: Record) -> Record | None:
        """Of the case that `own` is of."""
        return next((r for r in self.records if r.name == name and where(r) == where(own)), None)

    def ratios(self, name: str) -> list[float]:
        """Medians, over the shapes."""
        return [record.ratios[self.fused][1] for record in self.records if record.name == name]


def where(record: Record) -> tuple[object, ...]:
    """What the contenders of a case have in common."""
    return (*setting(record), record.shape)


def setting(record: Record) -> tuple[object, ...]:
    """What the cases of a table have in common."""
    r = record
    return r.section, r.setting, r.form, r.mode, r.dtype, r.layout, r.network, r.device, r.threads


def groups(records: Sequence[Record]) -> Iterator[Group]:
    """Each fused layer under each setting, with what was compared with it."""
    settings: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        settings.setdefault(setting(record), []).append(record)
    for found in settings.values():
        for fused in dict.fromkeys(r.name for r in found if r.contender == Kind.fused.value):
            yield Group(fused, [r for r in found if r.name == fused or fused in r.ratios])


def main_groups(records: Sequence[Record]) -> Iterator[Group]:
    """Those of the backend that was measured first: of several, the one that users get."""
    backends = [record.backend for record in records if record.backend]
    return (group for group in groups(records) if group.own[0].backend == backends[0])


def geometric_mean(values: Iterable[float]) -> float | None:
    """None of nothing."""
    values = list(values)
    return statistics.geometric_mean(values) if values else None
