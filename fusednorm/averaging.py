"""Running statistics taken anew, over batches: of a frozen network, as Switchable Normalization's paper takes them, and
of one whose weights were averaged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .modules.batch_norm import RunningStatistics
from .modules.layer import RecalibratedNorm, Recalibration, Standardization
from .modules.switchable import Switchable


@torch.no_grad()
def average_statistics(model: nn.Module, batches: Iterable[Any], pooled: bool = False) -> None:
    """Set the running statistics of a model's layers to the averages over some batches.

    The network is frozen and runs each batch (eagerly, where it is compiled too) with batch statistics in those layers,
    everything else as in evaluation; running_mean and running_var become the averages of the means and variances (SN
    section 3, "Inference") over a layer's calls, num_batches_tracked their number: a layer that is called twice a batch
    has two, an empty map counts as none. They are summed in float64 and rounded once, to the buffers' type. The layers
    are those with average="batch", or, where there are none, all fused layers with running statistics. Training and
    evaluation modes are afterwards as they were. (update_bn is for averaged weights: torch's BatchNorms too, and the
    network trains meanwhile.)

    Args:
        model: a network, or a layer.
        batches: what model takes: tensors, or tuples or lists of arguments, or dicts of keyword arguments.
        pooled: running_var becomes the variance of all batches together, mean(var + mean^2) - (mean of means)^2, as the
            official code's helper took it.

    Raises (and leaves all as it was):
        ValueError: no layer has running statistics, there is no batch, or a layer ran on none.
    """
    tracking = {
        name: m
        for name, m in model.named_modules()
        if isinstance(m, RunningStatistics) and m.running_mean is not None and m.num_batches_tracked is not None
    }
    chosen = {name: m for name, m in tracking.items() if isinstance(m, Switchable) and m.average == "batch"} or tracking
    if not chosen:
        raise ValueError("model: expected a fused layer with running statistics, there is none")
    layers = [_Watched(name, layer) for name, layer in chosen.items()]
    count = 0
    # Compiled code would not call the hooks.
    with _frozen(model, layers), _looking_after_calls(model, layers), torch.compiler.set_stance("force_eager"):
        for batch in batches:
            call(model, batch)
            count += 1
            for layer in layers:
                layer.look()
    if count == 0:
        raise ValueError("batches: expected at least one")
    idle = [repr(layer.name) for layer in layers if layer.count == 0]
    if idle:
        raise ValueError(
            f"model: expected every layer to run on a batch that is not empty, got none in {', '.join(idle)}"
        )
    for layer in layers:
        layer.write(pooled)


class _Watched:
    """A layer's statistics over its calls, summed around those of the first."""

    def __init__(self, name: str, layer: RunningStatistics) -> None:
        self.name, self.layer = name or type(layer).__name__, layer
        self.buffers = [layer.running_mean, layer.running_var, layer.num_batches_tracked]
        self.momentum, self.average = layer.momentum, layer.average if isinstance(layer, Switchable) else None
        self.frozen = layer.frozen
        self.count = 0
        self.origin: Tensor | None = None
        self.mean: Tensor | float = 0.0
        self.square: Tensor | float = 0.0
        self.var: Tensor | float = 0.0

    def lend(self) -> None:
        """Wide buffers that take each call's statistics as they are, and a counter on the host to see that it did."""
        layer, (mean, var, _) = self.layer, self.buffers
        assert mean is not None
        assert var is not None
        layer.running_mean = torch.zeros_like(mean, dtype=torch.promote_types(mean.dtype, torch.float32))
        layer.running_var = torch.zeros_like(var, dtype=layer.running_mean.dtype)
        layer.num_batches_tracked = torch.zeros((), dtype=torch.long)
        layer.momentum, layer.frozen = 1.0, False
        if isinstance(layer, Switchable):
            layer.average = "moving"
        layer.train()

    def restore(self) -> None:
        layer = self.layer
        layer.running_mean, layer.running_var, layer.num_batches_tracked = self.buffers
        layer.momentum, layer.frozen = self.momentum, self.frozen
        if isinstance(layer, Switchable) and self.average is not None:
            layer.average = self.average

    def look(self) -> None:
        """Take the statistics of the call that has been, if one has."""
        layer = self.layer
        assert layer.num_batches_tracked is not None
        assert layer.running_mean is not None
        assert layer.running_var is not None
        calls = int(layer.num_batches_tracked) - self.count
        if calls == 0:
            return
        if calls > 1:
            raise ValueError(f"model: expected {self.name!r} to be called as a module, its forward was called directly")
        mean, var = layer.running_mean.to(torch.float64, copy=True), layer.running_var.double()
        self.origin = mean if self.origin is None else self.origin
        self.mean = self.mean + (mean - self.origin)
        self.square = self.square + (mean - self.origin).square()
        self.var = self.var + var
        self.count += 1

    def write(self, pooled: bool) -> None:
        running_mean, running_var, counter = self.buffers
        assert self.origin is not None
        assert running_mean is not None
        assert running_var is not None
        assert counter is not None
        mean, var = self.mean / self.count, self.var / self.count
        if pooled:
            var = var + self.square / self.count - torch.as_tensor(mean).square()
        running_mean.copy_(self.origin + mean)
        running_var.copy_(torch.as_tensor(var))
        counter.fill_(self.count)


@contextlib.contextmanager
def _frozen(model: nn.Module, layers: list[_Watched]) -> Iterator[None]:
    """In evaluation, but for the layers, which collect; modes, options and buffers are afterwards the old ones."""
    modes = {m: m.training for m in model.modules()}
    try:
        model.eval()
        for layer in layers:
            layer.lend()
        yield
    finally:
        for layer in layers:
            layer.restore()
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def _looking_after_calls(model: nn.Module, layers: list[_Watched]) -> Iterator[None]:
    """A part is not called itself: whatever of ours holds a layer looks after it."""
    handles = []
    for module in model.modules():
        if isinstance(module, (Standardization, Recalibration, RecalibratedNorm)):
            inside = set(module.modules())
            for layer in layers:
                if layer.layer in inside:
                    handles.append(module.register_forward_hook(lambda *_, layer=layer: layer.look()))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def call(model: nn.Module, batch: Any) -> None:
    """model of a batch: a tensor, a tuple or list of arguments, or a dict of keyword arguments."""
    if isinstance(batch, dict):
        model(**batch)
    elif isinstance(batch, (tuple, list)):
        model(*batch)
    else:
        model(batch)


@torch.no_grad()
def update_bn(loader: Iterable[Any], model: nn.Module, device: torch.device | str | int | None = None) -> None:
    """torch.optim.swa_utils.update_bn, which sees torch's BatchNorms alone, for fused layers and those.

    Running statistics are reset and become cumulative averages over one pass of the loader, with the model in training
    mode: what weights averaged by torch.optim.swa_utils.AveragedModel want before they are used. Momenta and modes are
    afterwards as they were. SwitchableNorms with average="batch" take part, frozen layers (fusednorm.freeze) don't.
    (average_statistics keeps all else of the network in evaluation.)

    Args:
        loader: batches: tensors, or tuples or lists whose first item is the model's input.
        model: what is to be updated; without layers that have running statistics nothing is done.
        device: where to move the input to; None: nowhere.
    """
    kinds = (RunningStatistics, nn.modules.batchnorm._BatchNorm)
    layers = [m for m in model.modules() if isinstance(m, kinds) and not getattr(m, "frozen", False)]
    if not layers:
        return
    modes = {m: m.training for m in model.modules()}
    momenta = [layer.momentum for layer in layers]
    by_batch = [layer for layer in layers if isinstance(layer, Switchable) and layer.average == "batch"]
    try:
        model.train()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        for layer in by_batch:
            layer.average = "moving"
        for batch in loader:
            x = batch[0] if isinstance(batch, (tuple, list)) else batch
            model(x if device is None else x.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for layer in by_batch:
            layer.average = "batch"
        for module, training in modes.items():
            module.training = training
