"""Networks that conversions are tested on, small enough: their constructors' options, and the size of a picture."""

from __future__ import annotations

import torch
from torch import nn

from fusednorm.surgery import zoo

# name: how many places AN's Fig. 2 has there, how many normalizations there are
EXPECTED = {
    "torchvision/resnet18": (8, 20),
    "torchvision/resnet50": (16, 53),
    "torchvision/resnext50_32x4d": (16, 53),
    "torchvision/densenet121": (58, 121),
    "torchvision/mobilenet_v2": (17, 52),
    "torchvision/mobilenet_v3_small": (11, 34),
    "torchvision/efficientnet_b0": (16, 49),
    "torchvision/shufflenet_v2_x0_5": (16, 56),
    "torchvision/mnasnet0_5": (16, 52),
    "timm/resnet18": (8, 20),
    "timm/resnetv2_50": (16, 49),
    "timm/res2net50_26w_4s": (16, 85),
    "timm/densenet121": (58, 121),
    "timm/mobilenetv2_100": (17, 52),
    "timm/efficientnet_b0": (16, 49),
    "timm/seresnet50": (16, 53),
    "timm/regnetx_002": (13, 44),
    "timm/resnet50_gn": (16, 53),
}


def network(name: str, seed: int = 0) -> nn.Module:
    """In float64, in training, with running statistics and weights that are not the constructor's."""
    torch.manual_seed(seed)
    model = zoo.build(name, num_classes=5).double()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if type(module).__name__ == "StochasticDepth":
                module.p = 0.0
    return model


def picture(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 3, 33, 33, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
