"""Results as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One contender."""

    name: str
    median_ms: float
    low_ms: float  # first and third quartile
    high_ms: float
    over_fused: float  # median of the per-round ratios of time
    over_floor: float
    page_faults: float  # median, a call
    max_difference: float | None  # from the reference; None where there is nothing to compare


@dataclass(frozen=True)
class Result:
    """One layer, shape, type and layout."""

    layer: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    rounds: int
    bytes_of_x: int
    copy_gb_per_s: float  # read + write
    floor_units: int
    floor_ms: float
    rows: list[Row]


def stamp_table(stamp: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in stamp.items():
        table.add_row(name, Text(value))
    return table


def result_table(result: Result, stamp: Mapping[str, str]) -> Table:
    shape = "x".join(str(size) for size in result.shape)
    table = Table(
        title=f"{result.layer} with residual and ReLU, forward + backward, "
        f"{shape} {result.dtype} {result.layout}\nallocator: {stamp['allocator']}",
        caption=f"{stamp['threads']} threads, {result.rounds} rounds; x {result.bytes_of_x / MIB:.1f} MiB, "
        f"copy {result.copy_gb_per_s:.1f} GB/s, floor {result.floor_units} units = {result.floor_ms:.3g} ms",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("contender")
    for heading in ("median ms", "quartiles ms", "/ fused", "/ floor", "page faults", "max diff"):
        table.add_column(heading, justify="right")
    for row in result.rows:
        table.add_row(
            row.name,
            f"{row.median_ms:.3f}",
            f"{row.low_ms:.3f} - {row.high_ms:.3f}",
            f"{row.over_fused:.2f}",
            f"{row.over_floor:.2f}",
            f"{row.page_faults:.0f}",
            "-" if row.max_difference is None else f"{row.max_difference:.1e}",
        )
    return table


# A run is one process: one stamp and its results. A file holds a list of runs, since the settings of the
# allocator take a process each.


def run_record(stamp: Mapping[str, str], results: Sequence[Result]) -> dict[str, Any]:
    return {"stamp": dict(stamp), "results": [asdict(result) for result in results]}


def write_json(path: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    path.write_text(json.dumps(runs, indent=1) + "\n")


def read_json(path: Path) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(path.read_text())
    return runs
