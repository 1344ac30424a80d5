"""The same network four times: which norms it is built with, and from which weights it starts."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

import fusednorm
from fusednorm import reference

from .network import BatchNormAddReLU, Norms, TextureNet


def _batch_norms() -> Norms:
    return Norms(
        plain=partial(BatchNormAddReLU, relu=False),
        plain_relu=BatchNormAddReLU,
        joining=lambda channels, components: BatchNormAddReLU(channels),
    )


def _reference_norms() -> Norms:
    return Norms(
        plain=partial(BatchNormAddReLU, relu=False),
        plain_relu=BatchNormAddReLU,
        joining=partial(reference.AttentiveBatchNorm2d, act="relu"),
    )


def _fused_norms() -> Norms:
    return Norms(
        plain=fusednorm.BatchNorm2d,
        plain_relu=partial(fusednorm.BatchNorm2d, act="relu"),
        joining=partial(fusednorm.AttentiveBatchNorm2d, act="relu"),
    )


@dataclass(frozen=True)
class Contender:
    title: str
    norms: Callable[[], Norms]
    compiled: bool = False


BATCH_NORM = Contender("BatchNorm", _batch_norms)
REFERENCE = Contender("AN, plain", _reference_norms)
COMPILED = Contender("AN, compiled", _reference_norms, compiled=True)
FUSED = Contender("AN, fused", _fused_norms)
CONTENDERS = (BATCH_NORM, REFERENCE, COMPILED, FUSED)


def build(contender: Contender, num_classes: int, seed: int) -> TextureNet:
    """The contender's network. Every weight that it shares with the reference's starts as there."""
    torch.manual_seed(seed)
    start = TextureNet(num_classes, _reference_norms()).state_dict()
    network = TextureNet(num_classes, contender.norms())
    own = network.state_dict()
    # BatchNorm has one affine map where AN has a mixture of them: those keep their own start.
    shared = {key: value for key, value in start.items() if key in own and own[key].shape == value.shape}
    network.load_state_dict(own | shared)
    return network
