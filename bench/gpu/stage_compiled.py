"""Attentive BatchNorm against torch.compile of its reference and of BatchNorm + add + ReLU.

On few shapes: compiling is slow.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

import fusednorm.reference
from bench.contenders import BatchNormAddReLU

from .cases import LAYERS, Case
from .setting import Setting
from .training import measure, modules

AN = "AttentiveBatchNorm2d"


def run(setting: Setting) -> None:
    shape = (4, 8, 6, 6) if setting.dry else (64, 256, 56, 56)
    kinds = [("bfloat16", "channels_last"), ("float32", "nchw"), ("float32", "channels_last"), ("bfloat16", "nchw")]
    found = [Case(AN, shape, *kind) for kind in kinds[: 1 if setting.dry else 2 if setting.quick else 4]]
    setting.each(found, lambda case: compare(setting, case))


def compare(setting: Setting, case: Case) -> None:
    torch._dynamo.reset()
    channels = case.shape[1]
    reference = LAYERS[case.layer](fusednorm.reference, channels).to(setting.device)
    batch_norm = BatchNormAddReLU(channels).to(setting.device)
    contenders = modules(setting, case) | {
        "reference": (reference, None),
        "compiled reference": (compiled(reference, setting.dry), None),
        "compiled BatchNorm + add + ReLU": (compiled(batch_norm, setting.dry), None),
    }
    measure(setting, case, contenders, 3 if setting.dry else 20, "compiled")


def compiled(module: nn.Module, dry: bool) -> nn.Module:
    """A dry run leaves out Inductor, which takes a minute on a small machine."""
    result = torch.compile(
        copy.deepcopy(module), fullgraph=True, dynamic=False, backend="aot_eager" if dry else "inductor"
    )
    assert isinstance(result, nn.Module)
    return result
