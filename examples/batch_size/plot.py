"""Accuracy over samples per batch, as SN Fig. 1b has it."""

from __future__ import annotations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .results import Results, mean_and_deviation

COLORS = {"BN": "tab:gray", "GN": "tab:orange", "SN": "tab:red", "AN": "tab:blue", "RBN": "tab:green"}


def plot(results: Results, norms: list[str], batches: list[int]) -> Figure:
    """A line a norm, bars the deviation over seeds. Lines stand a little apart, or bars would hide each other."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.subplots()
    for number, norm in enumerate(norms):
        there = [batch for batch in batches if results.of(norm, batch)]
        found = [mean_and_deviation(results.of(norm, batch)) for batch in there]
        places = [batch * 1.03 ** (number - (len(norms) - 1) / 2) for batch in there]
        means, deviations = [m for m, _ in found], [d for _, d in found]
        axes.errorbar(places, means, deviations, marker="o", markersize=4, capsize=3, label=norm, color=COLORS[norm])
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    seeds = max((len(results.of(norm, batch)) for norm in norms for batch in batches), default=0)
    axes.set(xlabel="samples per batch", ylabel=f"test accuracy in %, mean ± deviation of {seeds} seeds")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return figure
