"""Plain tables: nothing to install."""

from __future__ import annotations

from collections.abc import Sequence


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; those of figures alone to the right."""
    lines = [list(head), *map(list, rows)] if head else [list(row) for row in rows]
    if not lines:
        return ""
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    figures = [all(_is_figure(cell) for cell in column[1 if head else 0 :]) for column in columns]
    out = []
    for line in lines:
        cells = zip(line, widths, figures, strict=True)
        out.append("  ".join(c.rjust(width) if right else c.ljust(width) for c, width, right in cells).rstrip())
    return "\n".join(out)


def _is_figure(cell: str) -> bool:
    return cell in ("", "-") or cell[0].isdigit() or cell in ("nan", "inf")


def shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def number(value: float) -> str:
    return f"{value:.1e}"
