"""An inspection as text."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

from torch import Tensor

from .layers import Inspection, Layer

Row = list[str]


def table(inspection: Inspection) -> str:
    """A table for each kind of thing that there is to see, and the number of the layers that have none of it."""
    texts = [
        _section("Switchable: ratios of means | of variances", inspection.having("importance"), _ratios),
        _section("Calibration: mean ± deviation over channels", _calibrated(inspection), _calibration),
        _section("Attention: K affine maps", inspection.having("mixture_weight"), _attention),
    ]
    shown = {id(layer) for layer in [*inspection.having("importance"), *_calibrated(inspection)]}
    shown |= {id(layer) for layer in inspection.having("mixture_weight")}
    others = [layer.kind for layer in inspection.layers if id(layer) not in shown]
    counts = [f"{others.count(kind)} {kind}" for kind in dict.fromkeys(others)]
    return "\n\n".join(filter(None, [*texts, ("Others: " + ", ".join(counts)) if counts else ""]))


def _calibrated(inspection: Inspection) -> list[Layer]:
    return [layer for layer in inspection.layers if layer.center_weight is not None or layer.scale_weight is not None]


def _section(title: str, layers: list[Layer], row: Callable[[Layer], dict[str, str]]) -> str:
    if not layers:
        return ""
    cells = [{"layer": layer.name} | row(layer) for layer in layers]
    columns = list(dict.fromkeys(name for one in cells for name in one))
    rows = [columns, *([one.get(name, "") for name in columns] for one in cells)]
    return f"{title}\n{_aligned(rows)}"


def _aligned(rows: list[Row]) -> str:
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = []
    for first, *rest in rows:
        numbers = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *numbers]).rstrip())
    return "\n".join(lines)


def _ratios(layer: Layer) -> dict[str, str]:
    assert layer.importance is not None
    return {
        f"{what} {scope}": f"{ratio.mean().item():.3f}"
        for what, scopes in layer.importance.items()
        for scope, ratio in scopes.items()
    }


def _calibration(layer: Layer) -> dict[str, str]:
    weights = {"w_m": layer.center_weight, "w_v": layer.scale_weight, "w_b": layer.scale_bias}
    row = {name: _spread(t) for name, t in weights.items() if t is not None}
    if layer.spread is not None:
        # Over channels: how wide RBN Fig. 5's bars are before and after.
        row |= {"std mu_c before": _spread(layer.spread.before), "after": _spread(layer.spread.after)}
    return row


def _attention(layer: Layer) -> dict[str, str]:
    assert layer.mixture_weight is not None
    assert layer.mixture_bias is not None
    K = len(layer.mixture_weight)
    row = {
        "K": str(K),
        "weights": _spread(layer.mixture_weight),
        "biases": _spread(layer.mixture_bias),
    }
    if layer.attention is not None:
        row["lambda"] = _spread(layer.attention)
        if len(layer.attention) > 1:
            row["over samples"] = f"± {layer.attention.std(0).mean().item():.3f}"
    return row


def _spread(t: Tensor) -> str:
    deviation = t.std().item() if t.numel() > 1 else 0.0
    return f"{_number(t.mean().item())} ± {_number(deviation)}"


def _number(value: float) -> str:
    """What has hardly left 0 does not look like 0."""
    return f"{value:.0e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"
