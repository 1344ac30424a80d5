"""Parts of heads with tensors: every kind that has a native head, by name, and head and tensors of any two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fusednorm.heads import (
    Affine,
    Attentive,
    Batch,
    EfficientChannelAttention,
    FilterResponse,
    GatherExcite,
    GlobalResponse,
    Group,
    Head,
    Identity,
    Representative,
    Running,
    Scaling,
    SqueezeExcite,
    StyleRecalibration,
    Switchable,
)

C = 12
Tensors = tuple[Tensor | None, ...]
Part = tuple[Any, Callable[[], Tensors]]


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def running() -> Tensors:
    return torch.randn(C, dtype=torch.float64), 0.5 + torch.rand(C, dtype=torch.float64)


def switchable(scopes: str, groups: int = 1, per_group: int = 1, unbiased: bool = False, given: bool = False) -> Part:
    """scopes by their first letters, in order."""
    names = tuple(next(s for s in ("instance", "layer", "batch", "group") if s[0] == letter) for letter in scopes)
    shape = (len(names),) if per_group == 1 else (per_group, len(names))
    head = Switchable(names, groups, unbiased, given, 1e-5)
    return head, lambda: (normal(*shape), normal(*shape), *(running() if given else ()))


STANDARDIZE: dict[str, Part] = {
    "batch": (Batch(), tuple),
    "running": (Running(1e-3), running),
    "group": (Group(3), tuple),
    "instance": (Group(C), tuple),
    "identity": (Identity(), tuple),
    "filter response": (FilterResponse(1e-3), tuple),
    "representative mean": (Representative("mean"), lambda: (normal(C),)),
    "representative std": (Representative("std"), lambda: (normal(C),)),
    "representative mean, running": (Representative("mean", True), lambda: (normal(C), *running())),
    "representative std, running": (Representative("std", True), lambda: (normal(C), *running())),
    "switchable": switchable("ilb"),
    "switchable, running": switchable("ilb", given=True),
    "switchable blig": switchable("blig", groups=4),
    "switchable lg": switchable("lg", groups=3),
    "switchable bl, unbiased": switchable("bl", unbiased=True),
    "switchable gib, unbiased, by groups": switchable("gib", groups=2, per_group=3, unbiased=True),
    "switchable lbi, by channels, running": switchable("lbi", per_group=C, given=True),
    "switchable b": switchable("b"),
    "switchable b, running": switchable("b", given=True),
    "switchable i, unbiased": switchable("i", unbiased=True),
}


def affine(bare: bool = False) -> Tensors:
    return (None, None) if bare else (1 + 0.3 * normal(C), normal(C))


def attention(norm: str = "batch", components: int = 5, width: int = C) -> Tensors:
    K = components
    fc = (0.3 * normal(K, width), normal(K))
    statistics = (normal(K), 0.5 + torch.rand(K).double()) if norm == "running" else (None, None)
    return (normal(K, C), normal(K, C), *fc, *((normal(K), normal(K)) if norm else (None, None)), *statistics)


def scaling(bare: bool = False) -> Tensors:
    return *affine(bare), normal(C), normal(C)


def squeeze(bare: bool = False, biases: bool = True, hidden: int = 3) -> Tensors:
    first, second = (normal(hidden, C), normal(hidden)), (normal(C, hidden), normal(C))
    return *affine(bare), first[0], first[1] if biases else None, second[0], second[1] if biases else None


def window(bare: bool = False, width: int = 3) -> Tensors:
    return *affine(bare), normal(1, 1, width)


def style(bare: bool = False, given: bool = False) -> Tensors:
    return *affine(bare), normal(C, 2), normal(C), normal(C), *(running() if given else (None, None))


RECALIBRATE: dict[str, Part] = {
    "affine": (Affine(), affine),
    "bare": (Affine(), lambda: affine(True)),
    "attentive": (Attentive(), attention),
    "attentive, mean and std": (Attentive("mean_std", "sigmoid"), lambda: attention("running", width=2 * C)),
    "attentive, softmax": (Attentive("mean", "softmax"), lambda: attention("")),
    "scaling": (Scaling(), scaling),
    "scaling by std, tanh": (Scaling("std", "tanh"), scaling),
    "scaling by x, hsigmoid": (Scaling("input_mean", "hsigmoid"), scaling),
    "scaling, bare": (Scaling("mean", "hsigmoid"), lambda: scaling(True)),
    "squeeze-excite": (SqueezeExcite(), squeeze),
    "squeeze-excite, tanh, no biases": (SqueezeExcite("tanh"), lambda: squeeze(biases=False, hidden=1)),
    "squeeze-excite, hsigmoid, bare": (SqueezeExcite("hsigmoid"), lambda: squeeze(True, hidden=19)),
    "channel attention": (EfficientChannelAttention(), window),
    "channel attention, tanh, bare, wide": (EfficientChannelAttention("tanh"), lambda: window(True, 2 * C + 3)),
    "style": (StyleRecalibration(1e-3), style),
    "style, bare, running": (StyleRecalibration(1e-2), lambda: style(True, True)),
    "gather-excite": (GatherExcite(), affine),
    "gather-excite, bare": (GatherExcite(), lambda: affine(True)),
    "global response": (GlobalResponse(1e-2), affine),
}


def join(standardize: Part, recalibrate: Part) -> tuple[Head, Tensors]:
    """A head of two parts, and tensors for it, in float64."""
    return Head(standardize[0], recalibrate[0]), (*standardize[1](), *recalibrate[1]())
