"""The demo's network with each norm, as its paper has it put in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

import fusednorm
from fusednorm.demo.network import Norms, TextureNet

GROUPS = 8
"""Of GN: 4 to 16 channels a group."""


def _everywhere(layer: Callable[..., nn.Module]) -> Norms:
    """The same layer in all places."""
    return Norms(
        plain=layer, plain_relu=partial(layer, act="relu"), joining=lambda channels, _: layer(channels, act="relu")
    )


def _attentive() -> Norms:
    """After the last 3x3 convolution of a block; BN elsewhere (AN Fig. 2)."""
    return Norms(
        plain=fusednorm.BatchNorm2d,
        plain_relu=partial(fusednorm.BatchNorm2d, act="relu"),
        joining=partial(fusednorm.AttentiveBatchNorm2d, act="relu"),
    )


NORMS: dict[str, Callable[[], Norms]] = {
    "BN": lambda: _everywhere(fusednorm.BatchNorm2d),
    "GN": lambda: _everywhere(partial(fusednorm.GroupNorm, GROUPS)),
    "SN": lambda: _everywhere(partial(fusednorm.SwitchableNorm2d, average="batch")),
    "AN": _attentive,
    "RBN": lambda: _everywhere(fusednorm.RepresentativeBatchNorm2d),
}


def build(norm: str, num_classes: int, seed: int) -> TextureNet:
    """Convolutions and classifier start alike whatever the norm: these draw numbers of their own."""
    torch.manual_seed(seed)
    start = TextureNet(num_classes, NORMS["BN"]()).state_dict()
    network = TextureNet(num_classes, NORMS[norm]())
    own = network.state_dict()
    shared = {k: v for k, v in start.items() if k.rpartition(".")[0].endswith(SHARED)}
    network.load_state_dict(own | shared)
    return network


SHARED = ("stem", "conv1", "conv2", "shortcut.0", "classifier")
