"""What the tests on a GPU share. Importing this where there is none skips the importing file as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.cases import BACKENDS as ALL_BACKENDS
from tests.cases import assert_twice_as_good, laid_out, pair, three_ways

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

DEVICE = "cuda"
BACKENDS = [name for name in ALL_BACKENDS if name != "cpu"]
OURS = [name for name in BACKENDS if name != "torch"]
HAS_CUDA = "cuda" in BACKENDS

needs_cuda_backend = pytest.mark.skipif(not HAS_CUDA, reason="the cuda backend is not built")


def normal(*shape: int, layout: str = "nchw", dtype: torch.dtype = torch.float32, device: str = DEVICE) -> Tensor:
    return laid_out(torch.randn(shape, device=device).to(dtype), layout)


def layers(kind: str, dims: int, channels: int, device: str = DEVICE, **options: Any) -> tuple[Any, Any]:
    """A fused layer and its reference with the same numbers, on the device."""
    fused, plain = pair(kind, dims, channels, **options)
    return fused.to(device), plain.to(device)


def compare(
    backend: str,
    kind: str,
    make_map: Callable[[], Tensor],
    dtype: torch.dtype,
    training: bool = True,
    residual: bool = True,
    draws: int = 4,
    **options: Any,
) -> None:
    """Three ways, as tests/cases.py says: fused, the reference in the same type, the reference in float64."""
    x = make_map()
    fused, plain = pair(kind, x.dim(), x.shape[1], **options)
    found = three_ways(backend, fused, plain, make_map, dtype, training, residual, draws, DEVICE)
    assert_twice_as_good(found, dtype)


def gradients(layer: Any, x: Tensor, residual: Tensor | None, dy: Tensor) -> list[Tensor]:
    """y, and the gradients of x, residual and parameters."""
    inputs = [x.detach().requires_grad_()]
    inputs += [] if residual is None else [residual.detach().requires_grad_()]
    y = layer(*inputs)
    return [y.detach(), *torch.autograd.grad(y, [*inputs, *layer.parameters()], dy)]


def same_bits(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
