"""What a conversion did, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One normalization: where it stood, what it was and is; stage 0 is outside of blocks."""

    name: str
    stage: int
    was: str
    now: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """The rows: replaced layers; those the recipe meant that stayed, with the reason; the parameters before and after.

    str() is a table.
    """

    recipe: str
    replaced: tuple[Row, ...] = ()
    left: tuple[Row, ...] = ()
    parameters: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        header = ("layer", "stage", "was", "is now", "")
        rows = [(r.name, str(r.stage or "-"), r.was, r.now, r.note) for r in self.replaced]
        lines = [f"{self.recipe}: {_count(len(self.replaced), 'layer')} replaced", *_table(header, rows)]
        if self.left:
            kept = [(r.name, str(r.stage or "-"), r.was, "", r.note) for r in self.left]
            lines += [f"{_count(len(self.left), 'layer')} could not be placed", *_table(header, kept)]
        lines += self.notes
        before, after = self.parameters
        lines.append(f"parameters: {before:,} before, {after:,} after ({after - before:+,})")
        return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)
    ]
