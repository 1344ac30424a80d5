"""Records as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from .names import Section
from .record import Record
from .shapes import CPU_BATCH, USUAL_BATCH
from .shapes import text as shape_text
from .summary import Group, geometric_mean, groups, main_groups

MIB = 1 << 20


def stamp_table(stamp: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in stamp.items():
        table.add_row(name, Text(value))
    return table


def described(r: Record) -> str:
    """The case that it is of."""
    about = (r.section, r.setting, r.form, r.mode, r.dtype, r.layout, shape_text(r.shape), r.network)
    return ", ".join([part for part in about if part] + [f"{r.threads} threads"])


def tables(section: Section, records: Sequence[Record], stamp: Mapping[str, str], *, verbose: bool) -> Iterator[Table]:
    if section in (Section.layers, Section.sweep):
        for group in groups(records) if verbose else main_groups(records):
            yield ratio_table(group, stamp)
    if verbose or section not in (Section.layers, Section.sweep):
        yield record_table(section, records)


def ratio_table(group: Group, stamp: Mapping[str, str]) -> Table:
    """Shapes against contenders: how many times a contender's time is the fused layer's."""
    one = group.own[0]
    table = Table(
        title=f"{one.section}: {group.fused}, {one.form}, {one.mode}, {one.dtype}, {one.layout}"
        + f"{', ' + one.setting if one.setting else ''}: time of each over fused (below 1, !: fused is slower)",
        caption=f"{one.device}, {one.threads} threads, {one.rounds} rounds, medians; "
        f"{'' if one.device != 'cpu' else f'networks at batch {CPU_BATCH}, usually {USUAL_BATCH} a GPU; '}"
        f"floor {one.floor_units} units; allocator: {stamp['allocator']}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("shape")
    for heading in ("MiB", "fused ms", "/ floor", "copy GB/s", "faults", "ops", *group.rivals):
        table.add_column(heading, justify="right")
    for own in group.own:
        rivals = [group.rival(name, own) for name in group.rivals]
        table.add_row(
            shape_text(own.shape),
            _number(own.bytes_of_x and own.bytes_of_x / MIB),
            _number(own.median_ms, 3),
            _number(own.over_floor),
            _number(own.copy_gb_per_s, 1),
            _number(own.page_faults, 0),
            _number(own.operators, 0),
            *(_ratio(None if rival is None else rival.ratios[group.fused][1]) for rival in rivals),
        )
    table.add_section()
    over_floor = geometric_mean(own.over_floor for own in group.own if own.over_floor)
    means = [_ratio(geometric_mean(group.ratios(name))) for name in group.rivals]
    table.add_row("geometric mean", "", "", _number(over_floor), "", "", "", *means)
    return table


def record_table(section: Section, records: Sequence[Record]) -> Table:
    """A line for each contender, with whatever the section measures."""
    told = [
        name
        for name in ("layout", "form", "mode", "dtype", "shape", "network", "setting", "threads")
        if len({getattr(record, name) for record in records}) > 1
    ]
    figures = {name: show for name, show in _FIGURES.items() if any(getattr(r, name) is not None for r in records)}
    table = Table(title=section.value, title_justify="left")
    for heading in ("contender", *told):
        table.add_column(heading)
    for heading in (*(name.replace("_", " ") for name in figures), "ratio to fused"):
        table.add_column(heading, justify="right")
    for record in records:
        cells = [shape_text(record.shape) if name == "shape" else str(getattr(record, name)) for name in told]
        values = [_number(getattr(record, name), digits, scale) for name, (digits, scale) in figures.items()]
        table.add_row(record.name, *cells, *values, _all_ratios(record))
    return table


# Digits after the point, and what a figure is divided by.
_FIGURES: dict[str, tuple[int, float]] = {
    "median_ms": (3, 1),
    "low_ms": (3, 1),
    "high_ms": (3, 1),
    "over_floor": (2, 1),
    "page_faults": (0, 1),
    "operators": (0, 1),
    "host_us": (1, 1),
    "bytes_of_x": (0, 1),
    "saved_bytes": (0, 1),
    "peak_bytes": (0, 1),
    "max_difference": (7, 1),
}


def _all_ratios(record: Record) -> Text:
    found = Text()
    for number, (name, (low, median, high)) in enumerate(record.ratios.items()):
        found.append("\n" if number else "")
        found.append(f"{name} ").append(_ratio(median)).append(f" ({low:.2f} - {high:.2f})")
    return found


def _number(value: float | None, digits: int = 2, scale: float = 1) -> str:
    return "-" if value is None else f"{value / scale:.{digits}f}"


def _ratio(value: float | None) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:.2f}") if value >= 1 else Text(f"!{value:.2f}", style="bold red")
