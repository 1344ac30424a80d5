"""Pictures of a run: bandwidth over size, times against the fused layers', whole networks.

`python -m bench.plot RUN.json FOLDER` draws a stored run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .names import Dtype, Kind, Mode, Section
from .record import Record
from .store import read_json
from .summary import Group, geometric_mean, main_groups

COPY = Kind.copy.value
BACKENDS = ("cuda", "triton", "torch")
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def plot(records: Sequence[Record], stamp: Mapping[str, str], folder: Path) -> Iterator[Path]:
    """Writes the pictures that there are records for; yields their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    of = {section: [r for r in records if r.section == section.value] for section in Section}
    if of[Section.sweep]:
        yield _bandwidth_picture(folder / "bandwidth.png", stamp, of[Section.sweep])
    for section in (Section.layers, Section.networks):
        found = [
            group
            for group in main_groups(of[section])
            if group.own[0].dtype == Dtype.float32.value and group.own[0].mode in ("", Mode.train.value)
        ]
        if any(group.rivals for group in found):
            yield _bar_picture(folder / f"{section.value}.png", stamp, found)


def _bandwidth_picture(path: Path, stamp: Mapping[str, str], records: Sequence[Record]) -> Path:
    layouts = list(dict.fromkeys(record.layout for record in records))
    figure, axes = _figure(len(layouts), stamp)
    for layout, ax in zip(layouts, axes, strict=True):
        _bandwidth(ax, [record for record in records if record.layout == layout], cache_sizes(stamp.get("caches", "")))
    figure.savefig(path, dpi=110)
    return path


def _bandwidth(axes: Axes, records: Sequence[Record], caches: Mapping[str, int]) -> None:
    """The floor's bytes over the time: where caches serve a second pass that is more than memory gives."""
    for name in dict.fromkeys(record.name for record in records):
        points = sorted((r.bytes_of_x, _gb_per_s(r)) for r in records if r.name == name and r.bytes_of_x)
        axes.plot(*zip(*points, strict=True), "k--" if name == COPY else ".-", label=name)
    sizes = [r.bytes_of_x for r in records if r.bytes_of_x]
    for name, size in caches.items():
        if min(sizes) < size < max(sizes):
            axes.axvline(size, color="gray", linestyle=":")
            axes.annotate(name, (size, 1), xycoords=("data", "axes fraction"), va="bottom", ha="center", fontsize=8)
    one = records[0]
    axes.set(yscale="log", xlabel="KiB of x", ylabel="floor's bytes over time, GB/s")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda size, _: f"{size / 1024:.0f}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(f"{one.form}, {one.mode}, {one.dtype}, {one.layout}", pad=18)
    axes.legend(fontsize=8)


def _gb_per_s(record: Record) -> float:
    return (record.floor_units or 0) * (record.bytes_of_x or 0) / (record.median_ms or 1) / 1e6


def _bar_picture(path: Path, stamp: Mapping[str, str], found: Sequence[Group]) -> Path:
    """A panel for each form, bars for each layer; what has several shapes or layouts is a geometric mean."""
    forms = list(dict.fromkeys(group.own[0].form for group in found))
    figure, axes = _figure(len(forms), stamp)
    for form, ax in zip(forms, axes, strict=True):
        _bars(ax, [group for group in found if group.own[0].form == form])
        ax.set_title(form or "training step")
    figure.savefig(path, dpi=110)
    return path


def _bars(axes: Axes, found: Sequence[Group]) -> None:
    ratios: dict[str, dict[str, list[float]]] = {}  # by rival, by fused layer
    for group in found:
        of = f"{group.own[0].network} {group.fused}".strip()
        for rival in group.rivals:
            kind = rival.removeprefix(f"{group.own[0].layer} ")
            kind = f"fused, {kind}" if kind in BACKENDS else kind
            ratios.setdefault(kind, {}).setdefault(of, []).extend(group.ratios(rival))
    places = list(dict.fromkeys(of for values in ratios.values() for of in values))
    width = 0.8 / max(len(ratios), 1)
    for number, (kind, values) in enumerate(ratios.items()):
        at = [place + (number - (len(ratios) - 1) / 2) * width for place, of in enumerate(places) if of in values]
        bars = axes.bar(at, [geometric_mean(values[of]) or 0 for of in places if of in values], width, label=kind)
        axes.bar_label(bars, fmt="%.1f", fontsize=6)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(places)), places, rotation=30, ha="right")
    axes.set(yscale="log", ylabel="time over the fused layer's (above 1: fused is faster)")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.legend(fontsize=7)


def _figure(panels: int, stamp: Mapping[str, str]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(7 * panels, 5.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    figure.suptitle(f"{stamp.get('CPU', '')}, {stamp.get('threads', '?')} threads, torch {stamp.get('torch', '?')}")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def cache_sizes(stamped: str) -> dict[str, int]:
    """Of `L1d 32K for CPUs 0, L3 32768K for ...`: {"L1d": 32768, "L3": 33554432}."""
    found = re.findall(r"(L\w+) (\d+)([KMG])", stamped)
    return {name: int(size) * _SUFFIXES[suffix] for name, size, suffix in found}


def main(
    path: Annotated[Path, typer.Argument(help="A file that --json wrote.")],
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
) -> None:
    """Draw a stored run."""
    for run in read_json(path):
        for picture in plot(run.records, run.stamp, folder):
            print(picture)


if __name__ == "__main__":
    typer.run(main)
