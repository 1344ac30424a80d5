"""plane_affine_grad: the gradient of the feature map.

    dx = scale*g*act'(z) + a*(x - center) + b

Traffic: 3 units (read g, x, write dx); 2 where nothing flows through the moments (no a) and act' does not ask
for z, for then x is not read. +1 to read a residual; a mask in its place adds 1/32 or 1/16.

Launch: one program, one tile of planes and positions, and those planes' numbers.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import gradient, masked_gradient
from .launch import Launch
from .layout import bits, load, load_bits, load_per_plane, per_plane, store, tile_planes, tile_positions


@triton.jit
def plane_affine_grad_kernel(
    x, g, residual, dx, center, scale, shift, a, b, mask, sizes, ACT: tl.constexpr, TILE: tl.constexpr
):
    COMPUTE: tl.constexpr = center.ptr.dtype.element_ty
    RECOMPUTE: tl.constexpr = ACT != "identity" and mask.ptr is None
    n, c, _, real, split = tile_planes(sizes, TILE)
    s, inside = tile_positions(split * TILE.positions, sizes, TILE)
    valid = real & inside

    grad = load(g, n, c, s, valid, sizes, TILE).to(COMPUTE)
    factor = load_per_plane(scale, n, c, real)
    if RECOMPUTE or a.ptr is not None:
        centred = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - load_per_plane(center, n, c, real)
    if RECOMPUTE:
        z = tl.fma(factor, centred, load_per_plane(shift, n, c, real))
        if residual.ptr is not None:
            z += load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE)
        grad = gradient(grad, z, ACT)
    elif mask.ptr is not None:
        grad = masked_gradient(grad, load_bits(mask, n, c, s, valid, TILE), ACT)

    result = factor * grad
    if b.ptr is not None:
        result += load_per_plane(b, n, c, real)
    if a.ptr is not None:
        result = tl.fma(load_per_plane(a, n, c, real), centred, result)
    store(dx, result, n, c, s, valid, sizes, TILE)


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
    dx = torch.empty_like(x)
    if act == "identity":  # z plays no part
        residual = mask = None
    if x.numel() > 0:
        Launch("plane_affine_grad", x, g, None if mask is not None else residual, dx).run(
            plane_affine_grad_kernel,
            *(per_plane(t) for t in (center, scale, shift, a, b)),
            bits(mask),
            ACT=act,
        )
    return dx
