"""The demo's residual network, and the norms it can be built with.

Every norm here is called as `norm(x, residual=None)` and returns act(norm(x) + residual), so that one
network serves all contenders. Attentive norms stand where the paper puts them: after the last 3x3 convolution
of each residual block, with 10 components in the early stages and 20 in the last one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

STAGES = ((32, 10), (64, 10), (128, 20))
"""(channels, components of the attentive norm) of each stage."""


class BatchNormAddReLU(nn.BatchNorm2d):
    """nn.BatchNorm2d + add + ReLU as torchvision's ResNet writes it, in place where that saves memory."""

    def __init__(self, num_features: int, relu: bool = True) -> None:
        super().__init__(num_features)
        self.relu = relu

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = super().forward(x)
        if residual is not None:
            y += residual
        return functional.relu(y, inplace=True) if self.relu else y


@dataclass(frozen=True)
class Norms:
    """How to build each norm of the network."""

    plain: Callable[[int], nn.Module]
    """channels -> BatchNorm"""
    plain_relu: Callable[[int], nn.Module]
    """channels -> BatchNorm + ReLU"""
    joining: Callable[[int, int], nn.Module]
    """channels, components -> the norm that ends a residual block: norm + add + ReLU"""


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, components: int, stride: int, norms: Norms) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.norm1 = norms.plain_relu(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = norms.joining(channels, components)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != channels or stride != 1:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, norms.plain(channels))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.norm1(self.conv1(x)))
        result: Tensor = self.norm2(out, self.shortcut(x))
        return result


class TextureNet(nn.Module):
    """One convolution that halves the crop, three residual blocks, mean pooling, a classifier."""

    def __init__(self, num_classes: int, norms: Norms) -> None:
        super().__init__()
        channels = STAGES[0][0]
        self.stem = nn.Conv2d(1, channels, 3, stride=2, padding=1, bias=False)
        self.stem_norm = norms.plain_relu(channels)
        blocks = []
        for out_channels, components in STAGES:
            stride = 1 if out_channels == channels else 2
            blocks.append(ResidualBlock(channels, out_channels, components, stride, norms))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem_norm(self.stem(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
