"""What a normalization layer of torch, timm or our own is, besides its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fusednorm.modules import BatchNorm1d, BatchNorm2d, BatchNorm3d, FusedNorm, GroupNorm
from fusednorm.modules.layer import Called

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
OF_BATCH = {1: BatchNorm1d, 2: BatchNorm2d, 3: BatchNorm3d}
TORCH_BATCH: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_FORWARDS: list[Any] = [kind.forward for kind in (*TORCH_BATCH, nn.GroupNorm)]
# What conversions replace, and with it all that stands where such a layer may.
NORMS: tuple[type[nn.Module], ...] = (*TORCH_BATCH, nn.GroupNorm, *OF_BATCH.values(), GroupNorm)
LAYERS: tuple[type[nn.Module], ...] = (*NORMS, Called, FusedNorm)

# Our names of activations, by the names of torch's modules and functions (what is in place is alike).
_ACTS = {
    nn.Identity: None,
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.LeakyReLU: "leaky_relu",
    nn.SiLU: "silu",
    nn.Hardswish: "hardswish",
    nn.GELU: "gelu",
}
# timm's own classes of the same functions.
_ACT_NAMES = {"Swish": "silu", "HardSwish": "hardswish", "GELU": "gelu"}


class UnplacedError(Exception):
    """Why a layer can't be taken for what it seems."""


@dataclass(frozen=True)
class Norm:
    """A normalization layer: scope "batch" or "group", its channels and options, and the activation inside of it."""

    scope: str
    channels: int
    eps: float
    momentum: float | None
    tracked: bool
    groups: int
    affine: bool
    act: str | None


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The LAYERS of a network by name, without those inside of others."""
    inside = None
    for name, module in model.named_modules():
        if inside is not None and name.startswith(inside):
            continue
        if isinstance(module, LAYERS):
            inside = f"{name}." if name else ""
            yield name, module


def read(module: nn.Module) -> Norm:
    """The options of one of NORMS.

    Raises:
        UnplacedError: it does more than a normalization and an activation that we have.
    """
    own: Any = module
    kind, act = type(module).__name__, _inside(module)
    if any(name not in module._parameters for name in ("weight", "bias")):
        raise UnplacedError(f"{kind} whose weight or bias is calculated (parametrized or pruned)")
    affine = own.weight is not None
    if affine and own.bias is None:
        raise UnplacedError(f"{kind} without a bias")
    if isinstance(module, (nn.GroupNorm, GroupNorm)):
        return Norm("group", own.num_channels, own.eps, None, False, own.num_groups, affine, act)
    tracked = own.running_mean is not None
    if tracked and not own.track_running_stats:
        raise UnplacedError(f"{kind} that has running statistics and no longer tracks them")
    return Norm("batch", own.num_features, own.eps, own.momentum, tracked, 1, affine, act)


def dims(module: nn.Module, others: int) -> int:
    """Of positions; `others` is what the network's convolutions have, for layers that take any."""
    for d, ours in OF_BATCH.items():
        if isinstance(module, (getattr(nn, f"BatchNorm{d}d"), ours)):
            return d
    return others


def place_of(module: nn.Module) -> tuple[torch.device | None, torch.dtype | None]:
    """Where the layer's tensors are, and their type: the parameters' if it has any."""
    for tensors in (module.parameters(), module.buffers()):
        for t in tensors:
            if t.is_floating_point():
                return t.device, t.dtype
    return None, None


def activation(module: nn.Module) -> str | None:
    """What `act` has to be for an activation of torch's or timm's; None for the identity.

    Raises:
        UnplacedError: it is none of ours.
    """
    kind = type(module)
    act = _ACTS.get(kind, "")
    if act == "" and kind.__module__.startswith("timm.layers"):
        act = _ACT_NAMES.get(kind.__name__, "")
    if act == "leaky_relu" and getattr(module, "negative_slope", None) != 0.01:
        raise UnplacedError(f"LeakyReLU of slope {getattr(module, 'negative_slope', '?')}")
    if act == "gelu" and getattr(module, "approximate", "none") != "none":
        raise UnplacedError("GELU by tanh")
    if act == "":
        raise UnplacedError(kind.__name__)
    return act


def _inside(module: nn.Module) -> str | None:
    """The activation within the layer: ours, or that of timm's layers which join the two."""
    if not isinstance(module, (*TORCH_BATCH, nn.GroupNorm)):
        return module.act  # type: ignore[return-value]
    if type(module).forward not in _FORWARDS and not type(module).__module__.startswith("timm.layers."):
        raise UnplacedError(f"{type(module).__name__} with a forward of its own")
    if getattr(module, "aa", None) is not None:
        raise UnplacedError(f"{type(module).__name__} with a filter")
    if not isinstance(getattr(module, "drop", nn.Identity()), nn.Identity):
        raise UnplacedError(f"{type(module).__name__} with dropout")
    own = getattr(module, "act", None)
    if own is None:
        return None
    try:
        return activation(own)
    except UnplacedError as error:
        raise UnplacedError(f"{type(module).__name__} with {error}") from None
