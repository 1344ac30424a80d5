"""plane_affine_reduce: the two sums of the backward pass.

    dshift = sum_s g      dscale = sum_s g*(x - center)      g = dy * act'(z), written on request

Traffic: 2 units (read dy, x), +1 to write g, +1 to read a residual; a mask in its place adds 1/32 or 1/16.

Launch: as plane_moments. A lane adds up the values it sees; at the end a plane's lanes are added, and its
programs by a second kernel, in fixed order.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import gradient, masked_gradient
from .launch import Launch, compute_dtype
from .layout import (
    bits,
    load,
    load_bits,
    load_per_plane,
    per_plane,
    store,
    tile_planes,
    tile_positions,
    zeros,
)


@triton.jit
def plane_affine_reduce_kernel(
    x,
    dy,
    residual,
    g,
    center,
    scale,
    shift,
    mask,
    dscale,
    dshift,
    sizes,
    ACT: tl.constexpr,
    TILE: tl.constexpr,
):
    COMPUTE: tl.constexpr = center.ptr.dtype.element_ty
    n, c, _, real, split = tile_planes(sizes, TILE)
    begin = split * sizes.chunk
    end = tl.minimum(begin + sizes.chunk, sizes.S)
    pivot = load_per_plane(center, n, c, real)
    factor = load_per_plane(scale, n, c, real)
    term = load_per_plane(shift, n, c, real)

    sum_g = zeros(TILE, COMPUTE)
    sum_gx = zeros(TILE, COMPUTE)
    for first in range(begin, end, TILE.positions):
        s, inside = tile_positions(first, sizes, TILE)
        valid = real & inside
        if mask.ptr is not None:  # before the maps: Triton 3.6 lays a loop out as its last load has it
            passed = load_bits(mask, n, c, s, valid, TILE)
        grad = load(dy, n, c, s, valid, sizes, TILE).to(COMPUTE)
        centred = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - pivot
        centred = tl.where(valid, centred, 0.0)  # and grad is 0 there: nothing is added
        if mask.ptr is not None:
            grad = masked_gradient(grad, passed, ACT)
        else:
            z = tl.fma(factor, centred, term)
            if residual.ptr is not None:
                z += load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE)
            grad = gradient(grad, z, ACT)
        if g.ptr is not None:
            store(g, grad, n, c, s, valid, sizes, TILE)
        sum_g += grad
        sum_gx = tl.fma(grad, centred, sum_gx)

    AXIS: tl.constexpr = 0 if TILE.channels_last else 1
    plane = split * sizes.planes + n * sizes.C + c
    tl.store(dscale + plane, tl.sum(sum_gx, AXIS, keep_dims=True), mask=real)
    tl.store(dshift + plane, tl.sum(sum_g, AXIS, keep_dims=True), mask=real)


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
    N, C = x.shape[:2]
    dtype = compute_dtype(x)
    g = torch.empty_like(x) if write_g else x.new_empty(0)
    if x.numel() == 0:
        return g, x.new_zeros((N, C), dtype=dtype), x.new_zeros((N, C), dtype=dtype)
    if act == "identity":  # z plays no part
        residual = mask = None
    dscale, dshift = (torch.empty((N, C), dtype=dtype, device=x.device) for _ in range(2))
    launch = Launch("plane_affine_reduce", x, dy, None if mask is not None else residual, g if write_g else None)
    args = (*(per_plane(t) for t in (center, scale, shift)), bits(mask))
    launch.sum_up(plane_affine_reduce_kernel, args, (dscale, dshift), ACT=act)
    return g, dscale, dshift
