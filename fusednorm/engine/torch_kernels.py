"""The `torch` backend: the four streaming kernels in plain PyTorch, for any device and any strides.

The contract is in docs/engine.md; the kernels of the other backends bear the same names.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .activations import activate, activate_inplace, gradient, masked_gradient, passes
from .layout import compute_dtype, is_channels_last, mask_shape, mean_dtype, per_plane, positions


def plane_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of every plane."""
    N, C = x.shape[:2]
    if x.numel() == 0:  # var_mean would warn, and give NaN
        return x.new_zeros((N, C), dtype=mean_dtype(x)), x.new_zeros((N, C), dtype=compute_dtype(x))
    planes = x.reshape(N, C, positions(x)).to(compute_dtype(x))
    var, rounded = torch.var_mean(planes, dim=-1, correction=0)
    rest = (planes - rounded.unsqueeze(-1)).mean(-1)
    return rounded.to(mean_dtype(x)) + rest, var


def plane_affine(
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    act: str,
    save_mask: bool,
) -> tuple[Tensor, Tensor]:
    """act(scale*(x - center) + shift + residual), and the mask where it is asked for."""
    z = _recompute(x, center, scale, shift, residual)
    mask = pack_mask(passes(z, act), x) if save_mask else x.new_empty((0,), dtype=torch.uint8)
    return _like(activate(z, act), x), mask


def plane_affine_inplace(
    x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, act: str
) -> None:
    """y over x; another map only where x has not the compute type, or might be the residual."""
    direct = x.dtype == compute_dtype(x) and residual is None
    z = x if direct else x.to(compute_dtype(x), copy=True)
    z.sub_(per_plane(center, x)).mul_(per_plane(scale, x)).add_(per_plane(shift, x))
    if residual is not None:
        z.add_(residual)
    activate_inplace(z, act)
    if not direct:
        x.copy_(z)


def plane_affine_reduce(
    dy: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    act: str,
    write_g: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """g = dy*act'(z) where it is asked for, sum of g*(x - center) and sum of g over each plane."""
    g = _gradient(dy, x, center, scale, shift, residual, mask, act)
    N, C = x.shape[:2]
    centred = x.to(compute_dtype(x)) - per_plane(center, x)
    dscale = (g * centred).reshape(N, C, positions(x)).sum(-1)
    dshift = g.reshape(N, C, positions(x)).sum(-1)
    return (_like(g, x) if write_g else x.new_empty((0,))), dscale, dshift


def plane_affine_grad(
    g: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    act: str,
) -> Tensor:
    """dx = scale*g*act'(z) + a*(x - center) + b."""
    dx = per_plane(scale, x) * _gradient(g, x, center, scale, shift, residual, mask, act)
    if a is not None and b is not None:
        dx = dx + per_plane(a, x) * (x.to(compute_dtype(x)) - per_plane(center, x)) + per_plane(b, x)
    return _like(dx, x)


def _recompute(x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None) -> Tensor:
    z = per_plane(scale, x) * (x.to(compute_dtype(x)) - per_plane(center, x)) + per_plane(shift, x)
    return z if residual is None else z + residual.to(z.dtype)


def _gradient(
    dy: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    act: str,
) -> Tensor:
    dy = dy.to(compute_dtype(x))
    if act == "identity":
        return dy
    if mask is not None:
        return masked_gradient(dy, unpack_mask(mask, x), act)
    return gradient(dy, _recompute(x, center, scale, shift, residual), act)


def _like(t: Tensor, x: Tensor) -> Tensor:
    """t in x's type and layout."""
    return torch.empty_like(x).copy_(t)


def _weights(x: Tensor) -> Tensor:
    """1, 2, 4 ... 128, made where x is: a copy from the host would make it wait, and break CUDA graphs."""
    return 1 << torch.arange(8, dtype=torch.uint8, device=x.device)


def pack_mask(bits: Tensor, x: Tensor) -> Tensor:
    """A boolean map of x's shape as the mask of docs/engine.md."""
    N, C, S = x.shape[0], x.shape[1], positions(x)
    runs = bits.reshape(N, C, S)
    if is_channels_last(x):
        runs = runs.transpose(1, 2)
    padded = torch.nn.functional.pad(runs.to(torch.uint8), (0, -runs.shape[-1] % 8))
    return (padded.reshape((*mask_shape(x), 8)) * _weights(x)).sum(-1, dtype=torch.uint8)


def unpack_mask(mask: Tensor, x: Tensor) -> Tensor:
    """The inverse of `pack_mask`."""
    runs = (mask.unsqueeze(-1) & _weights(x)).ne(0).flatten(-2)
    if is_channels_last(x):
        return runs[..., : x.shape[1]].transpose(1, 2).reshape(x.shape)
    return runs[..., : positions(x)].reshape(x.shape)
