"""The layers that recipes name, built in place of a normalization with its weights and statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusednorm import modules, recalibrations, standardizations
from fusednorm.heads.planes import restricted

from .norms import Norm, UnplacedError, dims, place_of, read

KINDS = ("attentive", "representative", "switchable", "normalization_attention", "squeeze_excite", "batch")
_BY_DIMS = {
    "attentive": "AttentiveBatchNorm",
    "representative": "RepresentativeBatchNorm",
    "switchable": "SwitchableNorm",
    "batch": "BatchNorm",
}
_GATES: dict[str, Callable[..., Any]] = {
    "normalization_attention": recalibrations.NormalizationAttention,
    "squeeze_excite": recalibrations.SqueezeExcite,
}


def build(kind: str, old: nn.Module, others: int, options: Mapping[str, Any], preserve: bool = False) -> nn.Module:
    """One of KINDS in place of a normalization: its options, mode, weights and statistics where they have a meaning.

    others: position dimensions where the old layer takes any. preserve: set so that it starts as what was there.

    Raises:
        UnplacedError: there is no such layer for it, or it can't start so. Whatever the layer raises for options.
    """
    device, dtype = place_of(old)
    new = make(kind, read(old), dims(old, others), {"device": device, "dtype": dtype, **options})
    with torch.no_grad():
        _carry(old, new)
        if preserve:
            _preserve(kind, new, old)
    new.train(old.training)
    return new


def make(kind: str, norm: Norm, positions: int, options: Mapping[str, Any]) -> nn.Module:
    """One of KINDS with a normalization's options, and its own, device and dtype among them."""
    own = dict(options)
    if kind != "attentive" and not norm.affine:
        own.setdefault("affine", False)
    return _over_batch(kind, norm, positions, own) if norm.scope == "batch" else _over_groups(kind, norm, own)


def _over_batch(kind: str, norm: Norm, positions: int, options: dict[str, Any]) -> nn.Module:
    statistics: dict[str, Any] = {"eps": norm.eps, "momentum": norm.momentum, "track_running_stats": norm.tracked}
    if kind in _GATES:
        statistics |= {name: options.get(name) for name in ("device", "dtype")}
        standardize = standardizations.Batch(norm.channels, **statistics)
        return modules.RecalibratedNorm(standardize, _GATES[kind](norm.channels, **options), act=norm.act)
    layer = getattr(modules, f"{_BY_DIMS[kind]}{positions}d")
    built: nn.Module = layer(norm.channels, **statistics | {"act": norm.act} | options)
    return built


def _over_groups(kind: str, norm: Norm, options: dict[str, Any]) -> nn.Module:
    if kind in _GATES:
        standardize = standardizations.Group(norm.groups, norm.channels, norm.eps)
        return modules.RecalibratedNorm(standardize, _GATES[kind](norm.channels, **options), act=norm.act)
    own = {"eps": norm.eps, "act": norm.act, **options}
    if kind == "attentive":
        return modules.AttentiveGroupNorm(norm.groups, norm.channels, **own)
    if kind == "batch":
        return modules.GroupNorm(norm.groups, norm.channels, **own)
    raise UnplacedError(f"{kind} has statistics of the batch, a GroupNorm none to hand on")


def _carry(old: nn.Module, new: nn.Module) -> None:
    """Tensors of the same name and shape, and whether they are trained.

    The mixture of Attentive Normalization keeps its own start: one weight a channel says nothing of K.
    """
    sources = {**dict(old.named_parameters(recurse=False)), **dict(old.named_buffers(recurse=False))}
    for part in (new, *new.children()):
        for tensors in (part._parameters, part._buffers):
            for name, own in tensors.items():
                source = sources.get(name)
                if own is not None and source is not None and source.shape == own.shape:
                    own.copy_(source)
                    own.requires_grad_(source.requires_grad)


def _preserve(kind: str, new: nn.Module, old: nn.Module) -> None:
    weight, bias = (getattr(old, name) for name in ("weight", "bias"))
    if weight is None and kind not in ("attentive", "batch"):
        raise UnplacedError("without weight and bias it can't start as what was there")
    if kind == "switchable":
        raise UnplacedError("switchable statistics are never those of one scope alone")
    if kind == "attentive":
        _preserve_mixture(new, weight, bias)
        return
    layer: Any = new.recalibrate if isinstance(new, modules.RecalibratedNorm) else new
    if kind == "representative" and layer.scale is not None:  # the gate is before the bias
        layer.weight.div_(restricted(layer.scale_bias, layer.restrict))
    elif kind == "normalization_attention":
        _divide(layer, torch.sigmoid(layer.offset))
    elif kind == "squeeze_excite":
        for own in layer.expand.parameters():
            own.zero_()
        _divide(layer, restricted(layer.weight.new_zeros(1), layer.gate))


def _divide(layer: Any, gate: Tensor) -> None:
    layer.weight.div_(gate)
    layer.bias.div_(gate)


def _preserve_mixture(layer: Any, weight: Tensor | None, bias: Tensor | None) -> None:
    """All lambda alike at first, whatever the input, and weights and biases that add up to the old ones."""
    K, start = layer.num_components, 1.0 if layer.attention_act == "relu" else 0.0  # relu has no slope at 0
    if layer.attention_norm is None:
        layer.attention.weight.zero_()
        layer.attention.bias.fill_(start)
    else:
        layer.attention_norm.weight.zero_()
        layer.attention_norm.bias.fill_(start)
    share = {"relu": 1.0, "softmax": 1 / K}.get(layer.attention_act, 0.5) * K
    layer.weight.sub_(layer.weight.mean(0))  # the components still differ, and learn different things
    layer.weight.add_(1.0 if weight is None else weight).div_(share)
    layer.bias.copy_(torch.zeros_like(layer.bias) if bias is None else (bias / share).expand_as(layer.bias))
