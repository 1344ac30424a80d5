"""fusednorm.inspect: looking into a model without changing it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fusednorm import parts
from fusednorm.averaging import call
from fusednorm.engine.layout import compute_dtype, positions
from fusednorm.engine.plain import full_precision, moments
from fusednorm.heads import Head
from fusednorm.heads.planes import Planes
from fusednorm.modules.attentive import Attentive
from fusednorm.modules.layer import FusedNorm, RecalibratedNorm, Recalibration, Standardization
from fusednorm.modules.representative import Representative, Scaling
from fusednorm.modules.switchable import Switchable
from fusednorm.parts import Part

from .layers import Inspection, Layer, Spread

FUSED = (Standardization, Recalibration, RecalibratedNorm, FusedNorm)


@torch.no_grad()
def inspect(model: nn.Module, batch: Any = None) -> Inspection:
    """What a model's fused layers have learned, and with a batch what they do with it.

    Without a batch: the ratios of Switchable layers (SN Fig. 7), the calibration weights w_m, w_v and w_b of
    Representative ones (RBN Figs. 3, 4), the affine maps of Attentive ones. With one the model runs it in evaluation,
    eagerly where it is compiled too, and there are also the attention weights lambda = Act(A(x)) of each sample (AN
    eqs. 7, 11), and the deviation over samples of each channel's mean of x_hat before and after the scaling
    calibration (RBN Fig. 5). They are calculated of the layers' inputs by the heads that the layers have. The model
    is afterwards as it was: modes, statistics, hooks.

    Args:
        model: a network, or a layer.
        batch: what model takes: a tensor, a tuple or list of arguments, or a dict of keyword arguments. Not all
            layers need to run on it.

    Raises:
        ValueError: model has no fused layer.
    """
    layers = _fused(model)
    if not layers:
        raise ValueError("model: expected one with fused layers, there is none (fusednorm.convert puts them in)")
    seen: dict[str, _Seen] = {name: _Seen() for name in layers}
    if batch is not None:
        with _evaluating(model), _watched(layers, seen), torch.compiler.set_stance("force_eager"):
            call(model, batch)
    return Inspection(tuple(_layer(name, module, seen[name]) for name, module in layers.items()))


class _Seen:
    """Of a layer's calls."""

    def __init__(self) -> None:
        self.attention: list[Tensor] = []
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    def look(self, layer: nn.Module, x: Tensor) -> None:
        if isinstance(half := _recalibration(layer), Attentive):
            self.attention.append(attention_weights(half, x).cpu())
        if isinstance(half, Scaling) and half.scale is not None:
            standardize = _standardization(layer)
            before, after = calibrated_means(standardize, half, x)
            self.before.append(before.cpu())
            self.after.append(after.cpu())

    def spread(self) -> Spread | None:
        if sum(len(means) for means in self.before) < 2:
            return None
        return Spread(torch.cat(self.before).std(0), torch.cat(self.after).std(0))


def attention_weights(layer: Attentive, x: Tensor) -> Tensor:
    """lambda (N, K) of x (N, C, *positions), as the layer is: in evaluation by running statistics."""
    part = layer.recalibration(x)
    head = Head(parts.identity().head, part.head)
    _, _, mean, var = moments(x, head, ())
    own = [None if t is None else t.to(var.dtype) for t in part.tensors]
    with full_precision(x):
        weights, _ = part.head.attention(Planes(mean, var, None, None, positions(x)), *own[2:])
    found: Tensor = weights
    return found


def calibrated_means(standardize: Standardization | None, scaling: Scaling, x: Tensor) -> tuple[Tensor, Tensor]:
    """Plane means (N, C) of x_hat, and of x_hat R(scale_weight K_s + scale_bias), by the layer's own passes."""
    x = x.to(compute_dtype(x))
    standardization = parts.identity() if standardize is None else standardize.standardization(x)
    whole = scaling.recalibration(x)
    plain, calibration = parts.affine(x, None, None), Part(whole.head, (None, None, *whole.tensors[2:]))
    before, after = (parts.run(x, standardization, part, None, None) for part in (plain, calibration))
    return _plane_means(before), _plane_means(after)


def _plane_means(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:])).mean(2)


def _fused(model: nn.Module) -> dict[str, nn.Module]:
    """Layers by name; what is inside one is part of it."""
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, FUSED) and module not in inside:
            found[name or type(module).__name__] = module
            inside.update(module.modules())
    return found


def _standardization(layer: nn.Module) -> Standardization | None:
    half = layer.standardize if isinstance(layer, RecalibratedNorm) else layer
    return half if isinstance(half, Standardization) else None


def _recalibration(layer: nn.Module) -> Recalibration | None:
    half = layer.recalibrate if isinstance(layer, RecalibratedNorm) else layer
    return half if isinstance(half, Recalibration) else None


def _layer(name: str, module: nn.Module, seen: _Seen) -> Layer:
    standardize, recalibrate = _standardization(module), _recalibration(module)
    found: dict[str, Any] = {}
    if isinstance(standardize, Switchable):
        ratios = standardize.importance()
        found["importance"] = {what: {k: t.cpu() for k, t in scopes.items()} for what, scopes in ratios.items()}
    if isinstance(standardize, Representative):
        found["center_weight"] = _copy(standardize.center_weight)
    if isinstance(recalibrate, Scaling):
        found |= {"scale_weight": _copy(recalibrate.scale_weight), "scale_bias": _copy(recalibrate.scale_bias)}
        found["spread"] = seen.spread()
    if isinstance(recalibrate, Attentive):
        found |= {"mixture_weight": _copy(recalibrate.weight), "mixture_bias": _copy(recalibrate.bias)}
        found["attention"] = torch.cat(seen.attention) if seen.attention else None
    return Layer(name, _kind(module), getattr(module, "channels", None), **found)


def _kind(module: nn.Module) -> str:
    if isinstance(module, RecalibratedNorm):
        return f"{type(module.standardize).__name__} + {type(module.recalibrate).__name__}"
    return type(module).__name__


def _copy(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach().to("cpu", copy=True)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {m: m.training for m in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _watched(layers: dict[str, nn.Module], seen: dict[str, _Seen]) -> Iterator[None]:
    def watch(name: str) -> Any:
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[name].look(module, args[0] if args else kwargs["x"])

        return before

    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_pre_hook(watch(name), with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
