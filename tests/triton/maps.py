"""Feature maps of many shapes and strides. What lies between the values of a strided one is NaN, so that a kernel
that reads it is found out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .conftest import DEVICE

Make = Callable[..., Tensor]
CHANNELS_LAST = torch.channels_last

MAPS: dict[str, Callable[[Make], Tensor]] = {
    "planar": lambda make: make(2, 3, 5, 7),
    "planar aligned": lambda make: make(1, 3, 8, 16),
    "planar many small planes": lambda make: make(3, 7, 3, 3),
    "planar one large plane": lambda make: make(1, 1, 31, 19),
    "planar C=1": lambda make: make(3, 1, 4, 5),
    "planar 3-D": lambda make: make(2, 5, 17),
    "planar 5-D": lambda make: make(2, 3, 2, 3, 5),
    "channels_last": lambda make: make(2, 5, 5, 7).contiguous(memory_format=CHANNELS_LAST),
    "channels_last aligned": lambda make: make(2, 32, 4, 4).contiguous(memory_format=CHANNELS_LAST),
    "channels_last wide": lambda make: make(1, 67, 3, 2).contiguous(memory_format=CHANNELS_LAST),
    "channels_last long": lambda make: make(1, 3, 13, 11).contiguous(memory_format=CHANNELS_LAST),
    "channels_last 3-D": lambda make: make(2, 17, 5).transpose(1, 2),
    "channels_last 5-D": lambda make: make(2, 3, 2, 3, 5).contiguous(memory_format=torch.channels_last_3d),
    "2-D": lambda make: make(5, 11),
    "2-D transposed": lambda make: make(11, 5).t(),
    "2-D N=1": lambda make: make(1, 37),
    "S=1": lambda make: make(4, 13, 1, 1),
    "S=1 planar": lambda make: spread(make(4, 13, 1, 1), 1),
    "every other channel": lambda make: spread(make(2, 3, 5, 7), 1),
    "every other column": lambda make: spread(make(2, 3, 5, 7), 3),
    "cropped": lambda make: crop(make(2, 3, 5, 6)),
    "cropped channels_last": lambda make: crop(make(2, 8, 5, 6), CHANNELS_LAST),
    "cropped 5-D": lambda make: crop(make(2, 3, 3, 2, 4)),
    "transposed positions": lambda make: make(2, 3, 7, 5).transpose(2, 3),
    "transposed samples": lambda make: make(3, 2, 5, 7).transpose(0, 1),
    "expanded samples": lambda make: make(1, 3, 5, 7).expand(4, 3, 5, 7),
}


def crop(x: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
    """x as the inside of a larger map."""
    size = [d + 2 if i > 1 else d for i, d in enumerate(x.shape)]
    around = x.new_full(size, float("nan")).contiguous(memory_format=memory_format)
    inside = around[(..., *(slice(1, -1) for _ in size[2:]))]
    return inside.copy_(x)


def spread(x: Tensor, dim: int) -> Tensor:
    """x as every other slice of a larger map."""
    size = [2 * d if i == dim else d for i, d in enumerate(x.shape)]
    around = x.new_full(size, float("nan"))
    return around[(*(slice(None) for _ in range(dim)), slice(None, None, 2))].copy_(x)


def normal(dtype: torch.dtype, seed: int = 0, mean: float = 0.5, std: float = 1.5) -> Make:
    """A maker of random tensors."""
    generator = torch.Generator().manual_seed(seed)

    def make(*size: int) -> Tensor:
        return (mean + std * torch.randn(size, generator=generator, dtype=torch.float64)).to(DEVICE, dtype)

    return make


def per_plane(x: Tensor, *kinds: str, seed: int = 9) -> list[Tensor]:
    """N x C tensors: "full", or shared by all "samples", all "channels", or strided."""
    make = normal(torch.float64 if x.dtype == torch.float64 else torch.float32, seed)
    N, C = x.shape[:2]
    kind: dict[str, Callable[[], Tensor]] = {
        "full": lambda: make(N, C),
        "samples": lambda: make(C).expand(N, C),
        "channels": lambda: make(N, 1).expand(N, C),
        "strided": lambda: make(C, 2 * N).t()[::2],
    }
    return [kind[k]() for k in kinds]
