"""The whole layer in plain PyTorch, differentiable any number of times: what gradients of gradients go through."""

from __future__ import annotations

import torch
from torch import Tensor

from fusednorm.heads import Head

from .activations import activate, masked_gradient
from .layout import compute_dtype, mean_dtype, per_plane, positions
from .torch_kernels import unpack_mask

Grads = tuple[Tensor | None, ...]


def recalibrated(x: Tensor, head: Head, tensors: tuple[Tensor | None, ...]) -> Tensor:
    """scale*(x - center) + shift, in the compute type."""
    N, C, S = x.shape[0], x.shape[1], positions(x)
    wide = x.to(compute_dtype(x))
    var, mean = torch.var_mean(wide.reshape(N, C, S), dim=-1, correction=0)
    center = mean.detach()
    scale, shift, _ = head(center, mean.to(mean_dtype(x)), var, S, *tensors)
    return per_plane(scale, x) * (wide - per_plane(center, x)) + per_plane(shift, x)


def backward(
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    head: Head,
    act: str,
    tensors: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> Grads:
    """Gradients of x, residual and tensors, themselves differentiable, where `needed` says so.

    With a mask the residual need not be known: a ReLU-like activation is linear on either side of its corners.
    """
    with torch.enable_grad():
        z = recalibrated(x, head, tensors)
        if mask is not None:
            bits = unpack_mask(mask, x)
            dresidual = masked_gradient(dy, bits, act)
            y = masked_gradient(z, bits, act).to(x.dtype)
        else:
            dresidual = dy
            y = activate(z if residual is None else z + residual, act).to(x.dtype)
        inputs = (x, residual if mask is None else None, *tensors)
        wanted = {i: t for i, t in enumerate(inputs) if t is not None and needed[i]}
        found = torch.autograd.grad(y, tuple(wanted.values()), dy, create_graph=True, allow_unused=True)
    grads: list[Tensor | None] = [None] * len(inputs)
    for i, grad in zip(wanted, found, strict=True):
        grads[i] = grad
    if mask is not None and needed[1]:
        grads[1] = dresidual
    return tuple(grads)
