"""What the operators need to know of a tensor's shape and memory order."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def positions(x: Tensor) -> int:
    """S: the number of positions of a plane; 1 for 2-D input."""
    return math.prod(x.shape[2:])


def is_channels_last(x: Tensor) -> bool:
    """Whether channels are x's innermost dimension in memory, which decides the loop order and the mask's shape."""
    return x.shape[1] > 1 and x.stride(1) == 1


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type that sums, N×C tensors and all arithmetic have."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def mean_dtype(x: Tensor) -> torch.dtype:
    """The type that plane means have: float64, so that differences keep float32's digits however large they are."""
    return compute_dtype(x) if x.device.type == "mps" else torch.float64  # MPS has none


def per_plane(t: Tensor, x: Tensor) -> Tensor:
    """An N×C tensor as one that broadcasts over x."""
    return t.reshape(t.shape + (1,) * (x.dim() - 2))


def mask_shape(x: Tensor) -> tuple[int, int, int]:
    """Shape of the mask that belongs to x: docs/engine.md."""
    N, C, S = x.shape[0], x.shape[1], positions(x)
    return (N, S, (C + 7) // 8) if is_channels_last(x) else (N, C, (S + 7) // 8)
