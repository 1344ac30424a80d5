"""The demo's picture: curves of training, bars of cost."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .results import Result
from .settings import Settings

FILE_NAME = "demo.png"
COLORS = ("tab:gray", "tab:blue", "tab:orange", "tab:green")
# The fused curve should lie on the plain one: dashed, both can be seen.
STYLES = ("-", "-", "-", "--")


def plot(results: list[Result], settings: Settings, out: Path) -> Path:
    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.subplots(2, 2)
    _plot_losses(axes[0, 0], results, settings)
    _plot_accuracies(axes[0, 1], results)
    _plot_times(axes[1, 0], results)
    _plot_memory(axes[1, 1], results)
    path = out / FILE_NAME
    figure.savefig(path, dpi=120)
    return path


def _plot_losses(axes: Axes, results: list[Result], settings: Settings) -> None:
    for result, color, style in zip(results, COLORS, STYLES, strict=True):
        if result.histories:
            losses = np.mean([history.losses for history in result.histories], axis=0)
            epochs = np.arange(1, len(losses) + 1) / settings.steps_per_epoch
            axes.plot(epochs, losses, color=color, linestyle=style, label=result.title)
    axes.set(title=f"training loss, mean of {settings.seeds} seeds", xlabel="epoch")
    axes.legend()


def _plot_accuracies(axes: Axes, results: list[Result]) -> None:
    for result, color, style in zip(results, COLORS, STYLES, strict=True):
        if result.histories:
            accuracies = 100 * np.array([history.accuracies for history in result.histories])
            epochs = np.arange(1, accuracies.shape[1] + 1)
            mean, deviation = accuracies.mean(axis=0), accuracies.std(axis=0)
            axes.plot(epochs, mean, color=color, linestyle=style, marker="o", label=result.title)
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.15)
    axes.set(title="test accuracy in %, mean ± deviation", xlabel="epoch")
    axes.legend()


def _plot_times(axes: Axes, results: list[Result]) -> None:
    allocators = list(results[0].times)
    height = 0.8 / len(allocators)
    for number, allocator in enumerate(allocators):
        shown = [(row, result.times[allocator]) for row, result in enumerate(results) if result.times]
        places = [row + number * height for row, _ in shown]
        colors = [COLORS[row] for row, _ in shown]
        medians = [time.median for _, time in shown]
        bars = axes.barh(places, medians, 0.95 * height, color=colors)
        axes.bar_label(bars, fmt=f"%.0f  (malloc {number + 1})", padding=2)
    mallocs = ", ".join(f"{number}: {name}" for number, name in enumerate(allocators, 1))
    _label_rows(axes, results, f"ms a training step\nmalloc {mallocs}")


def _plot_memory(axes: Axes, results: list[Result]) -> None:
    shown = [(row, result.peak_bytes / 1e6) for row, result in enumerate(results) if result.peak_bytes]
    bars = axes.barh([row for row, _ in shown], [mb for _, mb in shown], color=[COLORS[row] for row, _ in shown])
    axes.bar_label(bars, fmt="%.0f", padding=2)
    _label_rows(axes, results, "peak memory of a training step, MB")


def _label_rows(axes: Axes, results: list[Result], title: str) -> None:
    axes.set_yticks(range(len(results)), [result.title for result in results])
    axes.invert_yaxis()
    axes.set_title(title)
    axes.margins(x=0.35)
