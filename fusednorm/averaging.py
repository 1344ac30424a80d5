"""Batch average: the running statistics of a frozen network, as Switchable Normalization's paper takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .modules.batch_norm import RunningStatistics
from .modules.switchable import Switchable


@torch.no_grad()
def average_statistics(model: nn.Module, batches: Iterable[Any], pooled: bool = False) -> None:
    """Set the running statistics of a model's layers to the averages over some batches.

    The network is frozen and runs each batch with batch statistics in those layers, everything else as in
    evaluation; running_mean and running_var become the averages of the batches' means and variances (SN section 3,
    "Inference"), num_batches_tracked their number. The layers are those with average="batch", or, where there are none,
    all fused layers with running statistics. Training and evaluation modes are afterwards as they were.

    Args:
        model: a network, or a layer.
        batches: what model takes: tensors, or tuples or lists of arguments, or dicts of keyword arguments.
        pooled: running_var becomes the variance of all batches together, mean(var + mean^2) - (mean of means)^2, as the
            official code's helper took it.

    Raises (and leaves all as it was):
        ValueError: no layer has running statistics, or there is no batch.
    """
    tracking = [m for m in model.modules() if isinstance(m, RunningStatistics) and m.running_mean is not None]
    layers = [m for m in tracking if isinstance(m, Switchable) and m.average == "batch"] or tracking
    if not layers:
        raise ValueError("model: expected a fused layer with running statistics, there is none")
    modes = {m: m.training for m in model.modules()}
    before = [(layer.momentum, layer.average if isinstance(layer, Switchable) else "moving") for layer in layers]
    statistics = [[buffer.clone() for buffer in layer.buffers(recurse=False)] for layer in layers]
    sums = [_Sums() for _ in layers]
    count = 0
    try:
        model.eval()
        for layer in layers:
            layer.train()
            layer.momentum = 1.0  # the running statistics are the batch's
            if isinstance(layer, Switchable):
                layer.average = "moving"
        for batch in batches:
            _call(model, batch)
            count += 1
            for layer, total in zip(layers, sums, strict=True):
                total.add(layer)
    except BaseException:
        for layer, kept in zip(layers, statistics, strict=True):
            for buffer, old in zip(layer.buffers(recurse=False), kept, strict=True):
                buffer.copy_(old)
        raise
    finally:
        for layer, (momentum, average) in zip(layers, before, strict=True):
            layer.momentum = momentum
            if isinstance(layer, Switchable):
                layer.average = average
        for module, training in modes.items():
            module.training = training
    if count == 0:
        raise ValueError("batches: expected at least one")
    for layer, total in zip(layers, sums, strict=True):
        total.write(layer, count, pooled)


class _Sums:
    """Of a layer's statistics over batches, around the first batch's means."""

    def __init__(self) -> None:
        self.origin: Tensor | None = None
        self.mean: Tensor | float = 0.0
        self.square: Tensor | float = 0.0
        self.var: Tensor | float = 0.0

    def add(self, layer: RunningStatistics) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = layer.running_mean.to(torch.float64, copy=True)  # not an alias: the next batch overwrites it
        var = layer.running_var.double()
        self.origin = mean if self.origin is None else self.origin
        self.mean = self.mean + (mean - self.origin)
        self.square = self.square + (mean - self.origin).square()
        self.var = self.var + var

    def write(self, layer: RunningStatistics, count: int, pooled: bool) -> None:
        assert layer.running_mean is not None
        assert layer.running_var is not None
        assert layer.num_batches_tracked is not None
        assert self.origin is not None
        mean, var = self.mean / count, self.var / count
        if pooled:
            var = var + self.square / count - torch.as_tensor(mean).square()
        layer.running_mean.copy_(self.origin + mean)
        layer.running_var.copy_(torch.as_tensor(var))
        layer.num_batches_tracked.fill_(count)


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, dict):
        model(**batch)
    elif isinstance(batch, (tuple, list)):
        model(*batch)
    else:
        model(batch)
