"""The network, its norms, and what its optimizer is told."""

from __future__ import annotations

import torch
from torch import nn

import fusednorm
from fusednorm.surgery import zoo

from .settings import Settings


def build(settings: Settings, num_classes: int) -> tuple[nn.Module, str]:
    """With random weights, the same in every process; and what was converted, in words."""
    torch.manual_seed(settings.seed)
    model = zoo.build(settings.model, num_classes=num_classes)
    report = "as it is"
    if settings.recipe != "none":
        conversion = fusednorm.convert(model, settings.recipe, fold=settings.fold, preserve=settings.preserve)
        model, report = conversion.model, str(conversion.report)
    if settings.sync:
        model = fusednorm.convert_sync(model)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model, report


def optimizer(model: nn.Module, settings: Settings) -> torch.optim.SGD:
    """SGD; norms' parameters and biases have no weight decay."""
    return torch.optim.SGD(
        fusednorm.parameter_groups(model, settings.weight_decay),
        lr=settings.peak_rate,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
    )
