"""`python -m bench.compare OLD.json NEW.json`: which ratios to the fused layers got worse beyond noise.

Ratios alone are compared, never times: what slows a machine down slows both contenders of a round. A ratio,
contender's time over the fused layer's, is worse if

    new < old / (1 + allowed)

with allowed = margin * 2 sqrt(a^2 + b^2) + tolerance, where a and b are half the distance of the quartiles in the old
and the new run, relative to the medians: the noise within the runs. The tolerance is for what differs between runs
and not within: where memory lies, what else the machine did. Better is the same the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from .record import Ratio, Record
from .report import described
from .store import Run, read_json

TOLERANCE = 0.05

Key = tuple[tuple[object, ...], str]  # a record's, and the fused layer's name


@dataclass(frozen=True)
class Change:
    """One ratio in both runs."""

    record: Record  # the new one
    to: str
    old: Ratio
    new: Ratio
    allowed: float

    @property
    def factor(self) -> float:
        return self.new[1] / self.old[1]

    @property
    def worse(self) -> bool:
        return self.factor < 1 / (1 + self.allowed)

    @property
    def better(self) -> bool:
        return self.factor > 1 + self.allowed


def changes(
    old: Iterable[Record], new: Iterable[Record], *, margin: float = 1.0, tolerance: float = TOLERANCE
) -> Iterator[Change]:
    """Of all ratios that both have."""
    before = _ratios(old)
    for key, (record, ratio) in _ratios(new).items():
        if key in before:
            was = before[key][1]
            allowed = margin * 2 * math.hypot(_half_width(was), _half_width(ratio)) + tolerance
            yield Change(record, key[1], was, ratio, allowed)


def missing(old: Iterable[Record], new: Iterable[Record]) -> list[str]:
    """Ratios that the old run has alone, in words."""
    there = _ratios(new)
    return [f"{_described(r)} / {key[1]}" for key, (r, _) in _ratios(old).items() if key not in there]


def _ratios(records: Iterable[Record]) -> dict[Key, tuple[Record, Ratio]]:
    return {(record.key, to): (record, ratio) for record in records for to, ratio in record.ratios.items()}


def _half_width(ratio: Ratio) -> float:
    low, median, high = ratio
    return (high - low) / 2 / median


def _described(record: Record) -> str:
    return f"{record.name} ({described(record)})"


def _table(title: str, found: list[Change]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("ratio")
    for heading in ("old", "new", "new / old", "allowed"):
        table.add_column(heading, justify="right")
    for c in sorted(found, key=lambda change: change.factor):
        figures = f"{c.old[1]:.2f}", f"{c.new[1]:.2f}", f"{c.factor:.2f}", f"{c.allowed:.2f}"
        table.add_row(f"{_described(c.record)} / {c.to}", *figures)
    return table


def _records(runs: list[Run]) -> list[Record]:
    return [record for run in runs for record in run.records]


def main(
    old: Annotated[Path, typer.Argument(help="What --json wrote before.")],
    new: Annotated[Path, typer.Argument(help="What --json wrote now.")],
    margin: Annotated[float, typer.Option(min=0, help="Multiplies the noise within the runs.")] = 1.0,
    tolerance: Annotated[float, typer.Option(min=0, help="Let through besides, as a fraction.")] = TOLERANCE,
) -> None:
    """Exit status 1 if a ratio got worse beyond noise, or if the runs have none in common."""
    before, after = _records(read_json(old)), _records(read_json(new))
    found = list(changes(before, after, margin=margin, tolerance=tolerance))
    worse, better = [c for c in found if c.worse], [c for c in found if c.better]
    gone = missing(before, after)
    console = Console(width=150)
    if better:
        console.print(_table("better", better))
    if worse:
        console.print(_table("worse", worse))
    if gone:
        listed = "\n".join(f"  {line}" for line in gone[:10]) + ("\n  ..." if len(gone) > 10 else "")
        console.print(f"not in the new run: {len(gone)}\n{listed}", markup=False)
    console.print(f"{len(found)} ratios compared: {len(worse)} worse, {len(better)} better, {len(gone)} missing")
    if not found:
        console.print("the runs have nothing in common", style="red")
    raise typer.Exit(1 if worse or not found else 0)


if __name__ == "__main__":
    typer.run(main)
