"""Hot layers as one native operator per direction: kernels and head together (csrc/layer.h)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusednorm.heads import Attentive, Group, Head, Running
from fusednorm.heads.recalibrate import ATTENTION_NORM_EPS

from .backends import kernel
from .function import Spec, Tensors, save, through_plain, wants_mask

# Backends that have norm_forward and norm_backward.
BACKENDS = ("cpu", "cuda")


def _arrange(head: Head, tensors: Tensors) -> Tensors:
    """The head's tensors in the order of the operators' schemas, absent ones as None."""
    own = head.standardize.tensors
    running = tensors[:own] or (None, None)
    weight, bias, *attention = tensors[own:]
    return (weight, bias, *running, *(attention or (None,) * 6))


def _restore(
    head: Head, weight: Any, bias: Any, fc_weight: Any, fc_bias: Any, norm_weight: Any, norm_bias: Any
) -> Tensors:
    """Gradients in the order of the head's tensors."""
    running = (None,) * head.standardize.tensors
    if not isinstance(head.recalibrate, Attentive):
        return (*running, weight, bias)
    return (*running, weight, bias, fc_weight, fc_bias, norm_weight, norm_bias, None, None)


def _scalars(head: Head) -> tuple[int, float, str, str, float, float]:
    standardize, attention = head.standardize, head.recalibrate
    groups = standardize.groups if isinstance(standardize, Group) else -1 if isinstance(standardize, Running) else 0
    if isinstance(attention, Attentive):
        return groups, standardize.eps, attention.input, attention.act, attention.eps, ATTENTION_NORM_EPS
    return groups, standardize.eps, "rsd", "hsigmoid", 0.0, 0.0


def native_forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool
) -> tuple[Tensor, ...]:
    """y, mask, mean, var, scale, shift, z, and batch_mean, batch_var, z_mean, z_var, empty where not taken."""
    layer = (*_arrange(spec.head, tensors), *_scalars(spec.head), spec.act)
    return kernel("norm_forward", spec.backend)(x, residual, *layer, save_mask)


KEPT = 7  # outputs of NativeNorm before the statistics


class NativeNorm(torch.autograd.Function):
    """A hot layer as one native operator per direction."""

    @staticmethod
    def forward(spec: Spec, x: Tensor, residual: Tensor | None, *tensors: Tensor | None) -> Tensors:
        return native_forward(spec, x, residual, tensors, wants_mask(spec, residual))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.mark_non_differentiable(*output[1:])
        save(ctx, inputs[0], inputs[1:], output[:KEPT])

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> Tensors:
        if dy is None:
            return (None,) * len(ctx.needs_input_grad)
        grads = through_plain(ctx, dy)
        if grads is not None:
            return grads
        spec: Spec = ctx.spec
        x, residual, mask, mean, var, scale, shift, z, *tensors = ctx.saved_tensors
        needs_dx, needs_dresidual, *needs = ctx.needs_input_grad[1:]
        write_g = needs_dresidual and spec.act != "identity"
        layer = (*_arrange(spec.head, tuple(tensors)), *_scalars(spec.head), spec.act)
        dx, g, *found = kernel("norm_backward", spec.backend)(
            dy, x, residual, mask, mean, var, scale, shift, z, *layer, needs_dx, write_g
        )
        dresidual = None if not needs_dresidual else g if write_g else dy
        dtensors = [
            grad.to(t.dtype) if needed and grad is not None and t is not None else None
            for grad, t, needed in zip(_restore(spec.head, *found), tensors, needs, strict=True)
        ]
        return None, dx if needs_dx else None, dresidual, *dtensors
