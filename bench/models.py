"""ResNet-50, MobileNetV2 and DenseNet-121 in plain PyTorch, with whatever norm is asked for at each place.

A norm here is called as `norm(x, residual=None)` and returns act(norm(x) + residual), so that one network serves
norms that are fused with what follows them and norms that are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Site:
    """A place for a norm, by what papers choose theirs by."""

    channels: int
    act: str | None = None
    spatial: bool = False  # after a block's last 3x3 or depthwise convolution; in a dense layer its second norm
    last: bool = False  # a block's last one: the one that the residual is added to, where there is a residual
    components: int = 10  # AN's K there


Norms = Callable[[Site], nn.Module]


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride), 1x1 (He et al., 2016)."""

    def __init__(self, inputs: int, width: int, stride: int, components: int, norms: Norms) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm1 = norms(Site(width, "relu"))
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = norms(Site(width, "relu", spatial=True, components=components))
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.norm3 = norms(Site(outputs, "relu", last=True, components=components))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norms(Site(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x))
        y = self.norm2(self.conv2(y))
        result: Tensor = self.norm3(self.conv3(y), self.shortcut(x))
        return result


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise 3x3, 1x1 to fewer, without an activation at the end (Sandler et al., 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int, components: int, norms: Norms) -> None:
        super().__init__()
        width = inputs * expansion
        body: list[nn.Module] = []
        if expansion != 1:
            body += [nn.Conv2d(inputs, width, 1, bias=False), norms(Site(width, "relu6"))]
        body += [
            nn.Conv2d(width, width, 3, stride, padding=1, groups=width, bias=False),
            norms(Site(width, "relu6", spatial=True, components=components)),
            nn.Conv2d(width, outputs, 1, bias=False),
        ]
        self.body = nn.Sequential(*body)
        self.norm = norms(Site(outputs, last=True, components=components))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(self.body(x), x if self.residual else None)
        return result


class DenseLayer(nn.Module):
    """Norm, 1x1, norm, 3x3 to `growth` channels, which are appended (Huang et al., 2017)."""

    def __init__(self, inputs: int, growth: int, components: int, norms: Norms) -> None:
        super().__init__()
        width = 4 * growth
        self.norm1 = norms(Site(inputs, "relu"))
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.norm2 = norms(Site(width, "relu", spatial=True, last=True, components=components))
        self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv2(self.norm2(self.conv1(self.norm1(x))))), 1)


def resnet50(norms: Norms, classes: int = 1000) -> nn.Module:
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        norms(Site(64, "relu")),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    channels = 64
    for blocks, width, stage_stride, components in ((3, 64, 1, 10), (4, 128, 2, 10), (6, 256, 2, 20), (3, 512, 2, 20)):
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, stage_stride if block == 0 else 1, components, norms))
            channels = 4 * width
    return nn.Sequential(*layers, *_classifier(channels, classes))


def mobilenet_v2(norms: Norms, classes: int = 1000) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False), norms(Site(32, "relu6"))]
    channels = 32
    for expansion, outputs, blocks, stage_stride, components in (
        (1, 16, 1, 1, 5),
        (6, 24, 2, 2, 5),
        (6, 32, 3, 2, 5),
        (6, 64, 4, 2, 5),
        (6, 96, 3, 1, 10),
        (6, 160, 3, 2, 10),
        (6, 320, 1, 1, 10),
    ):
        for block in range(blocks):
            stride = stage_stride if block == 0 else 1
            layers.append(InvertedResidual(channels, outputs, stride, expansion, components, norms))
            channels = outputs
    layers += [nn.Conv2d(channels, 1280, 1, bias=False), norms(Site(1280, "relu6"))]
    return nn.Sequential(*layers, *_classifier(1280, classes))


def densenet121(norms: Norms, classes: int = 1000) -> nn.Module:
    growth, channels = 32, 64
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
        norms(Site(channels, "relu")),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    for number, (depth, components) in enumerate(((6, 10), (12, 10), (24, 20), (16, 20))):
        if number:  # a transition: half the channels, half the size
            layers += [
                norms(Site(channels, "relu")),
                nn.Conv2d(channels, channels // 2, 1, bias=False),
                nn.AvgPool2d(2),
            ]
            channels //= 2
        for _ in range(depth):
            layers.append(DenseLayer(channels, growth, components, norms))
            channels += growth
    return nn.Sequential(*layers, norms(Site(channels, "relu")), *_classifier(channels, classes))


def _classifier(channels: int, classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


MODELS: dict[str, Callable[[Norms], nn.Module]] = {
    "resnet50": resnet50,
    "mobilenetv2": mobilenet_v2,
    "densenet121": densenet121,
}
