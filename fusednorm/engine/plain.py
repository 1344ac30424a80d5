"""The whole layer in plain PyTorch, differentiable any number of times and in any way: what gradients of gradients, and
torch.func's transforms, go through."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from fusednorm.heads import Head

from .activations import activate, masked_gradient
from .layout import compute_dtype, mean_dtype, per_plane, positions
from .torch_kernels import unpack_mask

Tensors = tuple[Tensor | None, ...]


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Autocast would run the head's matrix products in 16 bits."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def recalibrated(x: Tensor, head: Head, tensors: Tensors) -> tuple[Tensor, Tensors]:
    """scale*(x - center) + shift in the compute type, and the head's statistics."""
    N, C, S = x.shape[0], x.shape[1], positions(x)
    planes = x.to(compute_dtype(x)).reshape(N, C, S)
    if head.needs_moments:
        var, mean = torch.var_mean(planes, dim=-1, correction=0)
        center = mean.detach()
        centred = planes - center.unsqueeze(-1)
        mean = center.to(mean_dtype(x)) + centred.mean(-1)
    else:
        assert tensors[0] is not None
        center = tensors[0].to(planes.dtype).repeat(N, 1)
        centred = planes - center.unsqueeze(-1)
        mean, var = center.to(mean_dtype(x)), torch.zeros_like(center)
    with full_precision(x):
        scale, shift, statistics = head(center, mean, var, S, *tensors)
    return per_plane(scale, x) * centred.reshape(x.shape) + per_plane(shift, x), statistics


def forward(x: Tensor, residual: Tensor | None, head: Head, act: str, tensors: Tensors) -> tuple[Tensor, Tensors]:
    """The layer, and the head's statistics."""
    z, statistics = recalibrated(x, head, tensors)
    return activate(z if residual is None else z + residual, act).to(x.dtype), statistics


def backward(
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    head: Head,
    act: str,
    tensors: Tensors,
    needed: tuple[bool, ...],
) -> Tensors:
    """Gradients of x, residual and tensors, themselves differentiable, where `needed` says so.

    With a mask the residual need not be known: a ReLU-like activation is linear on either side of its corners.
    """
    with torch.enable_grad(), full_precision(x):
        # Views, so that the gradients are those of this layer alone: x may have been calculated from the weights, or
        # be the residual, and those paths are the outer graph's.
        x, residual = x.view_as(x), None if residual is None else residual.view_as(residual)
        rest = tuple(None if t is None else t.view_as(t) for t in tensors)
        if mask is not None:
            bits = unpack_mask(mask, x)
            z, _ = recalibrated(x, head, rest)
            y, inputs = masked_gradient(z, bits, act).to(x.dtype), (x, None, *rest)
        else:
            y, _ = forward(x, residual, head, act, rest)
            inputs = (x, residual, *rest)
        wanted = {i: t for i, t in enumerate(inputs) if t is not None and needed[i]}
        found = (
            torch.autograd.grad(y, tuple(wanted.values()), dy, create_graph=True, allow_unused=True) if wanted else ()
        )
    grads: list[Tensor | None] = [None] * len(inputs)
    for i, grad in zip(wanted, found, strict=True):
        grads[i] = grad
    if mask is not None and needed[1]:
        grads[1] = masked_gradient(dy, bits, act)
    return tuple(grads)
