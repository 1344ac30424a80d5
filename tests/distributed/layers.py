"""Every layer with statistics over samples, by name, and what takes the one process's place: `train`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fusednorm
from fusednorm import RecalibratedNorm, recalibrations, standardizations

C = 6


def shrunk(a: Tensor) -> Tensor:
    """A gate by a function of the user's."""
    return torch.sigmoid(a / 2)


def pair(standardize: nn.Module, recalibrate: nn.Module, **options: Any) -> nn.Module:
    return RecalibratedNorm(standardize, recalibrate, **options)  # type: ignore[arg-type]


S, R = standardizations, recalibrations
Build = Callable[..., nn.Module]

LAYERS: dict[str, Build] = {
    "batch": lambda **o: fusednorm.BatchNorm2d(C, **o),
    "batch, bare": lambda **o: fusednorm.BatchNorm2d(C, affine=False, **o),
    "batch, cumulative": lambda **o: fusednorm.BatchNorm2d(C, momentum=None, **o),
    "batch, untracked": lambda **o: fusednorm.BatchNorm2d(C, track_running_stats=False, **o),
    "attentive": lambda **o: fusednorm.AttentiveBatchNorm2d(C, 4, **o),
    "attentive, mean and std": lambda **o: fusednorm.AttentiveBatchNorm2d(C, 4, attention_input="mean_std", **o),
    "attentive, no norm": lambda **o: fusednorm.AttentiveBatchNorm2d(C, 4, attention_norm=False, **o),
    "attentive, cumulative": lambda **o: fusednorm.AttentiveBatchNorm2d(
        C, 4, momentum=None, attention_act="softmax", **o
    ),
    "attentive group": lambda **o: fusednorm.AttentiveGroupNorm(2, C, 4, attention_norm=True, **o),
    "representative": lambda **o: fusednorm.RepresentativeBatchNorm2d(C, **o),
    "representative, std": lambda **o: fusednorm.RepresentativeBatchNorm2d(C, center="std", scale="std", **o),
    "representative, function": lambda **o: fusednorm.RepresentativeBatchNorm2d(C, restrict=shrunk, **o),
    "representative, spatial center": lambda **o: fusednorm.RepresentativeBatchNorm2d(C, center="spatial_mean", **o),
    "representative, spatial std": lambda **o: fusednorm.RepresentativeBatchNorm2d(C, center="spatial_std", **o),
    "representative, spatial scale": lambda **o: fusednorm.RepresentativeBatchNorm2d(C, scale="spatial_std", **o),
    "representative, both spatial": lambda **o: fusednorm.RepresentativeBatchNorm2d(
        C, center="spatial_std", scale="spatial_mean", **o
    ),
    "switchable": lambda **o: fusednorm.SwitchableNorm2d(C, **o),
    "switchable, unbiased": lambda **o: fusednorm.SwitchableNorm2d(C, unbiased=True, **o),
    "switchable, by groups": lambda **o: fusednorm.SwitchableNorm2d(
        C, scopes=("group", "batch", "instance", "layer"), num_groups=2, per_group=3, **o
    ),
    "switchable, batch average": lambda **o: fusednorm.SwitchableNorm2d(C, average="batch", **o),
    "instance enhancement": lambda **o: fusednorm.InstanceEnhancementBatchNorm2d(C, **o),
    "style": lambda **o: fusednorm.StyleRecalibration(C, **o),
    "batch, squeeze-excite": lambda **o: pair(S.Batch(C), R.SqueezeExcite(C, 2), **o),
    "batch, own gate": lambda **o: pair(S.Batch(C), R.EfficientChannelAttention(C, gate=shrunk), **o),
    "batch, global response": lambda **o: pair(S.Batch(C), R.GlobalResponse(C), **o),
    "batch, context": lambda **o: pair(S.Batch(C), R.NormalizationAttention(C), **o),
    "batch, embedded context": lambda **o: pair(
        S.Batch(C), R.NormalizationAttention(C, similarity="mean_difference", embedding=True), **o
    ),
    "batch, mean context": lambda **o: pair(S.Batch(C), R.NormalizationAttention(C, similarity=None), **o),
    "representative, context": lambda **o: pair(
        S.Representative(C, center="std"), R.NormalizationAttention(C, similarity="squared"), **o
    ),
    "spatial center, context": lambda **o: pair(
        S.Representative(C, center="spatial_mean"), R.NormalizationAttention(C), **o
    ),
    "spatial center, attentive": lambda **o: pair(S.Representative(C, center="spatial_std"), R.Attentive(C, 4), **o),
    "switchable, attentive": lambda **o: pair(S.Switchable(C), R.Attentive(C, 4), **o),
    "switchable, context": lambda **o: pair(
        S.Switchable(C), R.NormalizationAttention(C, similarity="dot", unbiased=True), **o
    ),
    "instance, style": lambda **o: pair(S.Instance(C), R.StyleRecalibration(C), **o),
    "batch, style": lambda **o: pair(S.Batch(C), R.StyleRecalibration(C), **o),
    "switchable, style": lambda **o: pair(S.Switchable(C), R.StyleRecalibration(C), **o),
}

# Layers of (N, C) or (N, C, L) input.
FLAT: dict[str, Build] = {
    "batch, flat": lambda **o: fusednorm.BatchNorm1d(C, **o),
    "attentive, flat": lambda **o: fusednorm.AttentiveBatchNorm1d(C, 4, **o),
    "representative, flat": lambda **o: fusednorm.RepresentativeBatchNorm1d(C, **o),
    "switchable, flat": lambda **o: fusednorm.SwitchableNorm1d(C, **o),
    "switchable, flat, unbiased": lambda **o: fusednorm.SwitchableNorm1d(C, unbiased=True, **o),
}
# Where what one half pools depends on what the other has pooled, there are two exchanges.
TWO_ROUNDS = ("batch, style", "switchable, style")


class Case(NamedTuple):
    """A layer, how the batch is split over the ranks, and how it is called."""

    layer: str
    split: tuple[int, ...]
    act: str | None = None
    residual: bool = False
    dtype: torch.dtype = torch.float64
    channels_last: bool = False
    offset: float = 0.0
    steps: int = 2
    gradients: bool = True
    plane: tuple[int, ...] = (5, 3)
    inplace: bool = False
    x_dtype: torch.dtype | None = None  # where x is not of the parameters' type
    backend: str | None = None


def build(case: Case) -> nn.Module:
    torch.manual_seed(1)
    builder = (LAYERS | FLAT)[case.layer]
    layer = builder(act=case.act, inplace=case.inplace).to(case.dtype)
    with torch.no_grad():
        for p in layer.parameters():  # none as at the start, where some are 0; of 32 bits in any case
            p.copy_(p.float() + torch.randn(p.shape) * 0.4)
    return layer


def batches(case: Case) -> list[tuple[Tensor, Tensor, Tensor]]:
    """x, residual and dy of every step, whole batches, of values that have 32 bits in any case."""
    generator = torch.Generator().manual_seed(2)
    shape = (sum(case.split), C, *case.plane)
    dtype = case.x_dtype or case.dtype
    found = []
    for _ in range(case.steps):
        x, residual, dy = (torch.randn(shape, generator=generator) for _ in range(3))
        found.append(((x * 1.5 + case.offset).to(dtype), residual.to(dtype), dy.to(dtype)))
    return found


def step(layer: nn.Module, case: Case, x: Tensor, residual: Tensor, dy: Tensor) -> list[Tensor]:
    """y, and dx and dresidual where they are wanted. Gradients of parameters are added up in them."""
    if case.channels_last:
        x, residual = (t.contiguous(memory_format=torch.channels_last) for t in (x, residual))
    if not case.gradients:
        with torch.no_grad():
            return [layer(x.clone(), residual if case.residual else None)]
    x, residual = x.clone().requires_grad_(), residual.clone().requires_grad_()
    y = layer(x, residual if case.residual else None)
    y.backward(dy)
    assert x.grad is not None
    return [y.detach(), x.grad, *([residual.grad] if case.residual and residual.grad is not None else [])]


class Found(NamedTuple):
    maps: list[list[Tensor]]  # of each step
    gradients: dict[str, Tensor]  # of parameters, over all steps
    buffers: dict[str, Tensor]


def found(layer: nn.Module, maps: list[list[Tensor]]) -> Found:
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return Found(maps, gradients, dict(layer.named_buffers()))


def run_whole(case: Case) -> Found:
    """One process with the whole batch."""
    layer = build(case)
    return found(layer, [step(layer, case, *batch) for batch in batches(case)])
