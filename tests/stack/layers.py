"""Layers and a small residual network for the tests of what surrounds them: compilers, exporters, trainers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

import fusednorm
from fusednorm import recalibrations, standardizations
from tests.cases import LAYERS, pair

KINDS = (
    *LAYERS,
    "representative",
    "representative spatial",
    "switchable",
    "squeeze-excite",
    "batch squeeze-excite",
    "normalization attention",
)
OWN = "own head"
OVER_BATCH = tuple(kind for kind in KINDS if kind.split()[0] in ("representative", "switchable") or "batch" in kind)
PER_SAMPLE = tuple(kind for kind in KINDS if kind not in OVER_BATCH)


class OwnHead(nn.Module):
    """Standardization of each plane, and an affine map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels))
        self.bias = nn.Parameter(torch.randn(channels))

    def forward(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.weight * torch.rsqrt(var + 1e-5)
        return scale, self.bias - scale * mean


def layer(kind: str, channels: int = 8, act: str | None = "relu") -> nn.Module:
    """A layer with random parameters and statistics."""
    if kind == OWN:
        return fusednorm.FusedNorm(OwnHead(channels), act)
    return pair(kind, 4, channels, act=act)[0]


def maps(*shape: int) -> tuple[Tensor, Tensor]:
    """x and a residual."""
    x, residual = torch.randn(shape or (4, 8, 6, 5)), torch.randn(shape or (4, 8, 6, 5))
    return x, residual


class Block(nn.Module):
    def __init__(self, channels: int, norm: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = fusednorm.BatchNorm2d(channels, act="relu")
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm2(self.conv2(self.norm1(self.conv1(x))), x)
        return y


class Network(nn.Module):
    """A residual network of images (N, 3, H, W) and 5 classes, a block for each norm."""

    def __init__(self, *norms: Callable[[int], nn.Module], channels: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.norm = fusednorm.BatchNorm2d(channels, act="relu")
        self.blocks = nn.Sequential(*(Block(channels, norm(channels)) for norm in norms))
        self.classes = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classes(self.blocks(self.norm(self.stem(x))).mean((2, 3)))
        return y


def network() -> Network:
    """With a layer of each paper."""
    return Network(
        lambda c: fusednorm.AttentiveBatchNorm2d(c, 5, act="relu"),
        lambda c: fusednorm.RepresentativeBatchNorm2d(c, act="relu"),
        lambda c: fusednorm.SwitchableNorm2d(c, act="relu"),
        lambda c: fusednorm.RecalibratedNorm(standardizations.Batch(c), recalibrations.SqueezeExcite(c, 2), act="relu"),
    )


def step(module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """A result and the gradients of inputs and parameters, then the buffers as they are after."""
    inputs = tuple(t.detach().requires_grad_() for t in inputs)
    module.zero_grad()
    y = module(*inputs)
    y.square().sum().backward()
    leaves = (*inputs, *(p for p in module.parameters() if p.requires_grad))
    return [y.detach(), *(t.grad.clone() for t in leaves if t.grad is not None), *copies(module.buffers())]


def copies(tensors: object) -> list[Tensor]:
    return [t.detach().clone() for t in tensors]  # type: ignore[attr-defined]


def assert_same_step(ours: nn.Module, theirs: nn.Module, *inputs: Tensor, **tolerance: float) -> None:
    """Results, gradients and buffers of a step of either."""
    for a, b in zip(step(ours, *inputs), step(theirs, *inputs), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def twins(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    return module, copy.deepcopy(module)
