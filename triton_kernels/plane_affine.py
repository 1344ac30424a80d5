"""plane_affine: the forward pass over the feature map.

    y = act(z),  z = scale*(x - center) + shift + residual,  and on request the mask: one bit a value

Traffic: 2 units (read x, write y), +1 for a residual; the mask adds 1/32 (float32) or 1/16 (half types).

Launch: one program, one tile of planes and positions, and those planes' center, scale and shift.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .activations import activate, passes
from .launch import Launch
from .layout import (
    bits,
    load,
    load_per_plane,
    mask_shape,
    per_plane,
    store,
    store_bits,
    tile_planes,
    tile_positions,
)


@triton.jit
def plane_affine_kernel(x, residual, y, center, scale, shift, mask, sizes, ACT: tl.constexpr, TILE: tl.constexpr):
    COMPUTE: tl.constexpr = center.ptr.dtype.element_ty
    n, c, first_plane, real, split = tile_planes(sizes, TILE)
    first = split * TILE.positions
    s, inside = tile_positions(first, sizes, TILE)
    valid = real & inside

    centred = load(x, n, c, s, valid, sizes, TILE).to(COMPUTE) - load_per_plane(center, n, c, real)
    z = tl.fma(load_per_plane(scale, n, c, real), centred, load_per_plane(shift, n, c, real))
    if residual.ptr is not None:
        z += load(residual, n, c, s, valid, sizes, TILE).to(COMPUTE)
    store(y, activate(z, ACT), n, c, s, valid, sizes, TILE)

    if mask.ptr is not None:
        begins = first_plane if TILE.channels_last else first
        store_bits(mask, passes(z, ACT) & valid, n, c, s, begins, real, inside, sizes, TILE)


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
    y = torch.empty_like(x)
    mask = torch.empty(mask_shape(x) if save_mask else (0,), dtype=torch.uint8, device=x.device)
    _write(y, x, (center, scale, shift), residual, mask if save_mask else None, act)
    return y, mask


def plane_affine_inplace(
    x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, act: str
) -> None:
    """y over x: no program reads what another writes."""
    _write(x, x, (center, scale, shift), residual, None, act)


def _write(
    y: Tensor,
    x: Tensor,
    coefficients: tuple[Tensor, Tensor, Tensor],
    residual: Tensor | None,
    mask: Tensor | None,
    act: str,
) -> None:
    if x.numel() > 0:
        Launch("plane_affine", x, residual, y).run(
            plane_affine_kernel, *(per_plane(t) for t in coefficients), bits(mask), ACT=act
        )
