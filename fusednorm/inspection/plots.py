"""An inspection as matplotlib figures. Each function takes the names of the layers to show; None: all that it can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .layers import Inspection, Layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"instance": "tab:orange", "layer": "tab:red", "batch": "tab:green", "group": "tab:purple"}
FEW = 30
"""With more layers than these each bar and box has less room."""
COLUMNS = 4
"""Of a grid of pictures, one a layer."""


def plot_importance(inspection: Inspection, layers: Sequence[str] | None = None) -> Figure:
    """SN Fig. 7: the ratios of means (above) and of variances, a bar a layer; of ratios per group their mean.

    Raises:
        ValueError: there is no Switchable layer, or an unknown name.
    """
    chosen = _chosen(inspection, "importance", layers, "Switchable")
    figure, rows = _wide(chosen, 2)
    for axes, what in zip(rows, ("mean", "var"), strict=True):
        bottom = torch.zeros(len(chosen))
        for scope, color in COLORS.items():
            ratios = torch.tensor([_ratio(layer, what, scope) for layer in chosen])
            if ratios.any():
                axes.bar(range(len(chosen)), ratios.numpy(), 0.85, bottom.numpy(), label=scope, color=color)
                bottom = bottom + ratios
        axes.set(ylabel=f"ratios of {'means' if what == 'mean' else 'variances'}", ylim=(0, 1), xlim=_limits(chosen))
    rows[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(COLORS), frameon=False)
    _name_layers(rows, chosen)
    return figure


def plot_calibration(inspection: Inspection, layers: Sequence[str] | None = None) -> Figure:
    """RBN Figs. 3 and 4: w_m, w_v and w_b, over channels a box a layer (whiskers to the ends), with their mean.

    Raises:
        ValueError: there is no calibration, or an unknown name.
    """
    weights = {"$w_m$": "center_weight", "$w_v$": "scale_weight", "$w_b$": "scale_bias"}
    calibrated = [layer for layer in inspection.layers if any(getattr(layer, w) is not None for w in weights.values())]
    chosen = _named(calibrated, layers, "Representative or Scaling")
    shown = {symbol: name for symbol, name in weights.items() if any(getattr(c, name) is not None for c in chosen)}
    figure, rows = _wide(chosen, len(shown))
    for axes, (symbol, name) in zip(rows, shown.items(), strict=True):
        places = [place for place, layer in enumerate(chosen) if getattr(layer, name) is not None]
        values = [getattr(chosen[place], name).double().numpy() for place in places]
        axes.boxplot(
            values, positions=places, widths=0.7, whis=(0, 100), showmeans=True, manage_ticks=False,
            meanprops={"marker": "D", "markersize": 3}, medianprops={"color": "tab:blue"},
        )  # fmt: skip
        axes.axhline(1.0 if name == "scale_bias" else 0.0, color="gray", linewidth=0.8, zorder=0)
        axes.set(ylabel=symbol, xlim=_limits(chosen))
    rows[0].set_title("over channels: box and median, mean (diamond), extremes; grey: where they started", fontsize=9)
    _name_layers(rows, chosen)
    return figure


def plot_attention(inspection: Inspection, layers: Sequence[str] | None = None) -> Figure:
    """Attention weights lambda over a batch, a map a layer: components across, samples down.

    Raises:
        ValueError: no Attentive layer has seen a batch, or an unknown name.
    """
    chosen = _chosen(inspection, "attention", layers, "Attentive, with a batch,")
    highest = max(max(_tensor(layer.attention).max().item() for layer in chosen), 1.0)  # relu's has no bound
    figure, grid = _grid(chosen)
    for number, (axes, layer) in enumerate(zip(grid, chosen, strict=True)):
        image = axes.imshow(
            _tensor(layer.attention).double().numpy(), aspect="auto", vmin=0, vmax=highest, cmap="viridis"
        )
        axes.set_title(layer.name, fontsize=9)
        axes.set_xlabel("component", fontsize=8)
        axes.locator_params(integer=True, nbins=6)
        if number % COLUMNS == 0:
            axes.set_ylabel("sample", fontsize=8)
    figure.colorbar(image, ax=grid, label=r"$\lambda$")
    return figure


def plot_spread(inspection: Inspection, layers: Sequence[str] | None = None) -> Figure:
    """RBN Fig. 5: the deviation over samples of each channel's mean before and after the scaling calibration, channels
    in the order of the first.

    Raises:
        ValueError: no layer with a scaling calibration has seen two samples, or an unknown name.
    """
    chosen = _chosen(inspection, "spread", layers, "Scaling, with a batch of two samples or more,")
    figure, grid = _grid(chosen)
    for number, (axes, layer) in enumerate(zip(grid, chosen, strict=True)):
        assert layer.spread is not None
        before, order = layer.spread.before.double().sort(descending=True)
        after = layer.spread.after.double()[order]
        axes.plot(before.numpy(), color="tab:gray", linewidth=1.5, label="before")
        axes.plot(after.numpy(), "o", color="tab:red", markersize=1.5, label="after scaling calibration")
        axes.set_title(layer.name, fontsize=9)
        axes.set_xlabel("channels, sorted", fontsize=8)
        axes.set_ylim(bottom=0)
        if number % COLUMNS == 0:
            axes.set_ylabel(r"deviation of $\mu_c$", fontsize=8)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
    return figure


PLOTS = {
    "importance": plot_importance,
    "calibration": plot_calibration,
    "attention": plot_attention,
    "spread": plot_spread,
}


def save(inspection: Inspection, folder: Path) -> list[Path]:
    """The figures that there is something to see in: importance.png, calibration.png, attention.png, spread.png."""
    folder.mkdir(parents=True, exist_ok=True)
    calibrated = [c for c in inspection.layers if c.center_weight is not None or c.scale_weight is not None]
    there = {name: calibrated if name == "calibration" else inspection.having(name) for name in PLOTS}
    paths = []
    for name in (name for name in PLOTS if there[name]):
        path = folder / f"{name}.png"
        PLOTS[name](inspection).savefig(path, dpi=120)
        paths.append(path)
    return paths


def _chosen(inspection: Inspection, what: str, names: Sequence[str] | None, kind: str) -> list[Layer]:
    return _named(inspection.having(what), names, kind)


def _named(layers: list[Layer], names: Sequence[str] | None, kind: str) -> list[Layer]:
    if not layers:
        raise ValueError(f"inspection: expected a {kind} layer, there is none")
    if names is None:
        return layers
    by_name = {layer.name: layer for layer in layers}
    for name in names:
        if name not in by_name:
            raise ValueError(f"layers: expected some of {', '.join(by_name)}, got {name!r}")
    return [by_name[name] for name in names]


def _ratio(layer: Layer, what: str, scope: str) -> float:
    assert layer.importance is not None
    ratio = layer.importance[what].get(scope)
    return 0.0 if ratio is None else ratio.mean().item()


def _tensor(t: Tensor | None) -> Tensor:
    assert t is not None
    return t


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    return figure


def _wide(layers: list[Layer], rows: int) -> tuple[Figure, list[Any]]:
    """Axes below each other, a place a layer."""
    room = 0.35 if len(layers) <= FEW else 0.22
    figure = _figure(max(5.0, 1.2 + room * len(layers)), 0.8 + 1.9 * rows)
    return figure, list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])


def _grid(layers: list[Layer]) -> tuple[Figure, list[Any]]:
    """Axes for each layer."""
    columns = min(COLUMNS, len(layers))
    rows = math.ceil(len(layers) / columns)
    figure = _figure(2.8 * columns + 1, 1.9 * rows + 0.8)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.tick_params(labelsize=7)
    for axes in grid[len(layers) :]:
        axes.remove()
    return figure, grid[: len(layers)]


def _limits(layers: list[Layer]) -> tuple[float, float]:
    return -0.6, len(layers) - 0.4


def _name_layers(rows: list[Any], layers: list[Layer]) -> None:
    size = 8 if len(layers) <= FEW else 6
    rows[-1].set_xticks(range(len(layers)), [layer.name for layer in layers], rotation=90, fontsize=size)
