"""Two pictures: bandwidth of the kernels over the copy's, and the layers' times over the floor by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .records import Record
from .text import shape

TARGET = 0.85  # of the copy's bandwidth
MARKERS = {"nchw": "o", "channels_last": "s"}


def plot(found: Sequence[Record], path: Path) -> None:
    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    left, right = figure.subplots(1, 2)
    _kernels(left, [record for record in found if record["kind"] == "kernel"])
    _layers(right, [record for record in found if record["kind"] == "layer"])
    name = next((record["values"].get("GPU", "dry run") for record in found if record["kind"] == "stamp"), "")
    figure.suptitle(name)
    figure.savefig(path, dpi=110)


def _kernels(axes: Axes, records: Sequence[Record]) -> None:
    for name in dict.fromkeys(r["name"] for r in records if r["name"].split(" ")[-1] in ("forward", "backward")):
        taken = [r for r in records if r["name"] == name]
        labels = [f"{shape(r['shape'])} {r['dtype']} {r['layout']}{' +res' if r['residual'] else ''}" for r in taken]
        axes.plot([r["of_copy"] for r in taken], labels, "o", label=name)
    axes.axvline(TARGET, color="gray", linestyle=":", label="target")
    axes.set(title="bandwidth over the copy's", xlim=(0, 1.1))
    axes.tick_params(axis="y", labelsize=5)
    axes.legend(fontsize=7)


def _layers(axes: Axes, records: Sequence[Record]) -> None:
    names = dict.fromkeys(name for r in records for name in r["rows"] if name != "copy")
    for number, name in enumerate(names):
        for layout, marker in MARKERS.items():
            taken = [r for r in records if r["layout"] == layout and name in r["rows"]]
            points = [(r["mib"], r["rows"][name]["over_floor"]) for r in taken]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=f"C{number}", alpha=0.6, label=f"{name}, {layout}")
    axes.set(title="forward + backward, time over the floor", xlabel="MiB of x", xscale="log", yscale="log")
    if records:
        axes.legend(fontsize=7)
