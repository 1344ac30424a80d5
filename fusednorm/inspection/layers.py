"""What is found out about a model's fused layers."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Spread:
    """The deviation (unbiased) over samples of each channel's plane means mu_c, (C): RBN Fig. 5."""

    before: Tensor
    """Of x_hat."""
    after: Tensor
    """Of x_hat R(scale_weight K_s + scale_bias)."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A fused layer. Tensors are copies on the CPU; what the layer does not have, or nobody asked for, is None."""

    name: str
    kind: str
    channels: int | None = None

    importance: dict[str, dict[str, Tensor]] | None = None
    """Switchable: {"mean": {scope: ratio}, "var": {scope: ratio}}, scalars or (per_group), as its `importance()`."""

    center_weight: Tensor | None = None
    """Representative: w_m (C)."""
    scale_weight: Tensor | None = None
    """Scaling calibration: w_v (C)."""
    scale_bias: Tensor | None = None
    """Scaling calibration: w_b (C)."""
    spread: Spread | None = None
    """Scaling calibration, with a batch of two samples or more."""

    mixture_weight: Tensor | None = None
    """Attentive: the K affine maps' weights (K, C)."""
    mixture_bias: Tensor | None = None
    """Attentive: their biases (K, C)."""
    attention: Tensor | None = None
    """Attentive, with a batch: lambda (N, K); of a layer that is called several times all its calls', one below the
    other."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """A model's fused layers in the order of its modules; str() is a table."""

    layers: tuple[Layer, ...] = field(default_factory=tuple)

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)

    def having(self, what: str) -> list[Layer]:
        """The layers that have an attribute, "attention" say."""
        return [layer for layer in self.layers if getattr(layer, what) is not None]

    def __str__(self) -> str:
        from .table import table

        return table(self)
