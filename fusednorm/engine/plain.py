"""The whole layer in plain PyTorch, differentiable any number of times and in any way: what gradients of gradients, and
torch.func's transforms, go through."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusednorm.heads import AnyHead, Head
from fusednorm.heads.context import context_of, inner_map, own_tensors
from fusednorm.heads.planes import position_statistic, restricted
from fusednorm.heads.samples import HERE, Pools
from fusednorm.heads.spatial import centres, centring_row, coefficients, restrict_of

from .activations import activate, masked_gradient
from .layout import compute_dtype, mean_dtype, per_plane, positions
from .position_kernels import KINDS
from .synchronized import Taped, pools_of
from .torch_kernels import unpack_mask

if TYPE_CHECKING:
    from .function import Spec

Tensors = tuple[Tensor | None, ...]


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Autocast would run the head's matrix products in 16 bits."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def without_moments(x: Tensor, head: AnyHead, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Pivots, and variances nobody looks at, in place of a map's moments."""
    pivot = head.pivot(tensors)
    var = x.new_zeros(x.shape[:2], dtype=compute_dtype(x))
    if pivot is None:
        return torch.zeros_like(var, dtype=mean_dtype(x)), var
    return pivot.to(var.dtype).to(mean_dtype(x)).repeat(x.shape[0], 1), var


def moments(x: Tensor, head: AnyHead, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pivots, the centred planes (N, C, S), plane means and variances."""
    planes = x.to(compute_dtype(x)).reshape(*x.shape[:2], positions(x))
    if not head.needs_moments:
        mean, var = without_moments(x, head, tensors)
        center = mean.to(var.dtype)
        return center, planes - center.unsqueeze(-1), mean, var
    var, mean = torch.var_mean(planes, dim=-1, correction=0)
    center = mean.detach()
    centred = planes - center.unsqueeze(-1)
    return center, centred, center.to(mean_dtype(x)) + centred.mean(-1), var


def recalibrated(x: Tensor, head: AnyHead, tensors: Tensors, pools: Pools) -> tuple[Tensor, Tensors]:
    """scale*(x - center) + shift in the compute type, and the head's statistics."""
    center, centred, mean, var = moments(x, head, tensors)
    with full_precision(x):
        if isinstance(head, Head) and head.family != "planes":
            through = _spatial if head.family == "spatial" else _context
            z, found = through(head, center, centred, mean, var, tensors, pools)
            return z.reshape(x.shape), found
        scale, shift, statistics = head(center, mean, var, positions(x), *tensors, pools=pools)
    return per_plane(scale, x) * centred.reshape(x.shape) + per_plane(shift, x), statistics


def _spatial(
    head: Head, center: Tensor, d: Tensor, m: Tensor, v: Tensor, tensors: Tensors, pools: Pools
) -> tuple[Tensor, Tensors]:
    """The steps of spatial.py on d = x - center (N, C, S)."""
    S, row, cov, level, spread = d.shape[-1], None, None, None, None
    if centres(head):
        t_var, t_mean = torch.var_mean(d + center.unsqueeze(-1), dim=1, correction=0)
        row, level, spread = centring_row(head, t_mean, t_var)
        cov = (d * row.unsqueeze(1)).mean(-1)
    k, statistics = coefficients(head, center, m, v, cov, level, spread, S, tensors, pools)
    x_hat = k.scale.unsqueeze(-1) * d + k.shift.unsqueeze(-1)
    if k.outer is not None and row is not None:
        x_hat = x_hat + k.outer.unsqueeze(-1) * row.unsqueeze(1)
    z = k.gain.unsqueeze(-1) * x_hat
    if k.gate_weight is not None and k.gate_bias is not None:
        u_var, u_mean = torch.var_mean(x_hat, dim=1, correction=0)
        u = position_statistic(u_mean, u_var, head.recalibrate.statistic).unsqueeze(1)
        z = z * restricted(k.gate_weight.unsqueeze(-1) * u + k.gate_bias.unsqueeze(-1), restrict_of(head))
    return z + k.bias.unsqueeze(-1), statistics


def _context(
    head: Head, center: Tensor, d: Tensor, m: Tensor, v: Tensor, tensors: Tensors, pools: Pools
) -> tuple[Tensor, Tensors]:
    """The steps of context.py on d = x - center (N, C, S)."""
    context = context_of(head)
    (scale, shift, w, offset), statistics = inner_map(head, center, m, v, d.shape[-1], tensors, pools)
    # l1 and squared are around the plane mean, which d's pivot only equals
    around = d if context.kind == "sum" else d - (m - center).to(d.dtype).unsqueeze(-1)
    t = (w.unsqueeze(-1) * KINDS[context.kind][0](around)).sum(1)
    rest = own_tensors(head, tensors, center.dtype)
    p = context.positions(t, offset, *rest)
    pooled = (d * p.unsqueeze(1)).sum(-1)
    scale, shift = context.outer(pooled, scale, shift, *rest)
    return scale.unsqueeze(-1) * d + shift.unsqueeze(-1), statistics


def forward(
    x: Tensor, residual: Tensor | None, head: AnyHead, act: str, tensors: Tensors, pools: Pools = HERE
) -> tuple[Tensor, Tensors]:
    """The layer, and the head's statistics."""
    z, statistics = recalibrated(x, head, tensors, pools)
    return activate(z if residual is None else z + residual, act).to(x.dtype), statistics


def with_statistics(x: Tensor, residual: Tensor | None, spec: Spec, tensors: Tensors) -> tuple[Tensor, Tensors]:
    """forward; where statistics are synchronized, with the number of samples that they are of at their end."""
    if spec.group is None:
        return forward(x, residual, spec.head, spec.act, tensors)
    pool = Taped(spec.group, mean_dtype(x))
    y, statistics = forward(x, residual, spec.head, spec.act, tensors, pools_of(spec.halves, pool))
    return y, (*statistics, pool.seen)


def backward(
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    head: AnyHead,
    act: str,
    tensors: Tensors,
    needed: tuple[bool, ...],
    pools: Pools = HERE,
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
            z, _ = recalibrated(x, head, rest, pools)
            y, inputs = masked_gradient(z, bits, act).to(x.dtype), (x, None, *rest)
        else:
            y, _ = forward(x, residual, head, act, rest, pools)
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
