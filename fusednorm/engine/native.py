"""Hot layers as one native operator per direction: kernels and head together (csrc/layer.h)."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from fusednorm.heads import (
    ATTENTION_ACTS,
    ATTENTION_INPUTS,
    RESTRICTIONS,
    SCOPES,
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
from fusednorm.heads.recalibrate import attention_norm_eps

from .backends import kernel
from .function import Spec, Tensors, family
from .operators import LAYER_GRADIENTS, LAYER_TENSORS

# The parts that have native heads: the number of each, as csrc/common/arguments.h has it, and the operators' names of
# its tensors. Running statistics come after the standardization's own tensors.
RUNNING = ("running_mean", "running_var")
STANDARDIZATIONS: dict[type, tuple[int, tuple[str, ...]]] = {
    Batch: (0, ()),
    Running: (0, ()),
    Group: (1, ()),
    Switchable: (2, ("mean_weight", "var_weight")),
    Representative: (3, ("center_weight",)),
    Identity: (4, ()),
    FilterResponse: (5, ()),
}
RECALIBRATIONS: dict[type, tuple[int, tuple[str, ...]]] = {
    Affine: (0, ("weight", "bias")),
    Attentive: (
        1,
        ("weight", "bias", "fc_weight", "fc_bias", "norm_weight", "norm_bias", "norm_mean", "norm_var"),
    ),
    Scaling: (2, ("weight", "bias", "gate_weight", "gate_bias")),
    SqueezeExcite: (3, ("weight", "bias", "fc_weight", "fc_bias", "gate_weight", "gate_bias")),
    EfficientChannelAttention: (4, ("weight", "bias", "gate_weight")),
    StyleRecalibration: (
        5,
        ("weight", "bias", "gate_weight", "norm_weight", "norm_bias", "norm_mean", "norm_var"),
    ),
    GatherExcite: (6, ("weight", "bias")),
    GlobalResponse: (7, ("weight", "bias")),
}
SCALING_SOURCES = ("mean", "std", "input_mean")
# Backends that have norm_forward and norm_backward, and the parts they know.
ALL = (*STANDARDIZATIONS, *RECALIBRATIONS)
KNOWN: dict[str, tuple[type, ...]] = {"cpu": ALL, "cuda": ALL}


def covers(spec: Spec) -> bool:
    """Whether there is a native operator for this layer; if not, a backend's streaming kernels go around its head,
    as they do where statistics are exchanged with other processes in between."""
    head, known = spec.head, KNOWN.get(spec.backend, ())
    if spec.group is not None or not isinstance(head, Head) or head.family != "planes":
        return False
    return type(head.standardize) in known and type(head.recalibrate) in known and not head.has_function


def names(head: Head) -> tuple[str, ...]:
    """What the operators call the head's tensors, in the head's order."""
    own = STANDARDIZATIONS[type(head.standardize)][1]
    running = RUNNING if head.standardize.tensors > len(own) else ()
    return (*own, *running, *RECALIBRATIONS[type(head.recalibrate)][1])


def layer_arguments(spec: Spec, tensors: Tensors) -> tuple[Any, ...]:
    """The layer's arguments in the order of the operators' schemas, absent tensors as None."""
    assert isinstance(spec.head, Head)
    # The cache saves 10 µs; what is compiled looks once anyway.
    places, scalars = (plan.__wrapped__ if torch.compiler.is_compiling() else plan)(spec.head)
    filled = (*tensors, None)
    return (*[filled[i] for i in places], *scalars, spec.act)


@functools.cache
def plan(head: Head) -> tuple[tuple[int, ...], tuple[int | float | bool, ...]]:
    """Where among the head's tensors each of the schemas' is, -1 for those it lacks, and the schemas' scalars."""
    own = names(head)
    return tuple(own.index(name) if name in own else -1 for name in LAYER_TENSORS), _scalars(head)


def taken(head: Head, tensors: Tensors) -> tuple[int, ...]:
    """Of the operator's four statistics (batch_mean, batch_var, z_mean, z_var), those that the head takes."""
    may = isinstance(head.recalibrate, Attentive | StyleRecalibration)
    normed = may and tensors[-4] is not None and tensors[-1] is None
    return (*range(head.updates), *((2, 3) if normed else ()))


def _restore(head: Head, gradients: list[Tensor]) -> Tensors:
    """Gradients in the order of the head's tensors."""
    found = dict(zip(LAYER_GRADIENTS, gradients, strict=True))
    return tuple(found.get(name) for name in names(head))


def _scalars(head: Head) -> tuple[int | float | bool, ...]:
    """The schemas' scalars, from `standardize` on."""
    part, then = head.standardize, head.recalibrate
    groups, scopes, unbiased, center_std = 1, 0, False, False
    if isinstance(part, Group):
        groups = part.groups
    elif isinstance(part, Switchable):
        groups, unbiased = part.num_groups if "group" in part.scopes else 1, part.unbiased
        scopes = sum((SCOPES.index(scope) + 1) << (4 * i) for i, scope in enumerate(part.scopes))
    elif isinstance(part, Representative):
        center_std = part.center == "std"
    source, gate, source_eps = 0, 0, 0.0
    if isinstance(then, Attentive):
        source, gate, source_eps = ATTENTION_INPUTS.index(then.input), ATTENTION_ACTS.index(then.act), then.eps
    elif isinstance(then, Scaling):
        source, gate = SCALING_SOURCES.index(then.statistic), RESTRICTIONS.index(str(then.restrict))
    elif isinstance(then, SqueezeExcite | EfficientChannelAttention):
        gate = RESTRICTIONS.index(str(then.gate))
    elif isinstance(then, StyleRecalibration | GlobalResponse):
        source_eps = then.eps
    kinds = STANDARDIZATIONS[type(part)][0], RECALIBRATIONS[type(then)][0]
    own = (kinds[0], groups, scopes, unbiased, center_std, part.eps)
    return (*own, kinds[1], source, gate, source_eps, attention_norm_eps())


def native_forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool
) -> tuple[Tensor, ...]:
    """y, mask, mean, var, scale, shift, z, and batch_mean, batch_var, z_mean, z_var, empty where not taken."""
    return kernel("norm_forward", spec.backend)(x, residual, *layer_arguments(spec, tensors), save_mask)


def native_inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensors:
    """batch_mean, batch_var, z_mean, z_var, empty where not taken."""
    found: Tensors = kernel("norm_forward_inplace", spec.backend)(x, residual, *layer_arguments(spec, tensors))
    return found


def native_backward(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    outputs: list[Tensor],
    tensors: Tensors,
    needs_dx: bool,
    needs_dresidual: bool,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    assert isinstance(spec.head, Head)
    write_g = needs_dresidual and spec.act != "identity"
    dx, g, *found = kernel("norm_backward", spec.backend)(
        dy, x, residual, mask, *outputs, *layer_arguments(spec, tensors), needs_dx, write_g
    )
    dresidual = None if not needs_dresidual else g if write_g else dy
    dtensors = tuple(
        grad.to(t.dtype) if needed and grad is not None and t is not None else None
        for grad, t, needed in zip(_restore(spec.head, found), tensors, needs, strict=True)
    )
    return dx if needs_dx else None, dresidual, dtensors


NATIVE = family("NativeNorm", native_forward, native_inplace, native_backward, 7)
