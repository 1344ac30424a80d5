"""What the tests on a GPU share. Importing this where there is none skips the importing file as a whole."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fusednorm
from tests.cases import BACKENDS as ALL_BACKENDS
from tests.cases import Contender, assert_twice_as_good, channels_last, pair

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

DEVICE = "cuda"
BACKENDS = [name for name in ALL_BACKENDS if name != "cpu"]
OURS = [name for name in BACKENDS if name != "torch"]
HAS_CUDA = "cuda" in BACKENDS
TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = ("nchw", "channels_last")
KINDS = ("batch", "group", "attentive batch", "attentive group")

needs_cuda_backend = pytest.mark.skipif(not HAS_CUDA, reason="the cuda backend is not built")


def on_gpu(x: Tensor, dtype: torch.dtype, device: str = DEVICE) -> Tensor:
    """x there, in another type, with x's strides even where they leave gaps."""
    size = 1 + sum(s * (n - 1) for s, n in zip(x.stride(), x.shape, strict=True))
    base = torch.full((size,), float("nan"), dtype=dtype, device=device)  # gaps are never to be read
    return base.as_strided(x.shape, x.stride()).copy_(x)


def normal(*shape: int, layout: str = "nchw", dtype: torch.dtype = torch.float32, device: str = DEVICE) -> Tensor:
    t = torch.randn(shape, device=device).to(dtype)
    return channels_last(t) if layout == "channels_last" else t


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
    fused, plain = layers(kind, x.dim(), x.shape[1], **options)
    exact = copy.deepcopy(plain).double()
    if dtype == torch.float64:
        fused.double(), plain.double()
    for layer in (fused, plain, exact):
        layer.train(training)
    results = []
    for _ in range(draws):
        x = on_gpu(make_map(), dtype)
        other = normal(*x.shape, dtype=dtype) if residual else None
        dy = normal(*x.shape, dtype=dtype)
        with fusednorm.use_backend(backend):
            ours = Contender(fused, x, other, dy)
        assert ours.tensors["y"].stride() == torch.empty_like(x).stride()
        truth = Contender(exact, x.double(), None if other is None else other.double(), dy.double())
        results.append((ours, Contender(plain, x, other, dy), truth))
    assert_twice_as_good(results, dtype)


def gradients(layer: Any, x: Tensor, residual: Tensor | None, dy: Tensor) -> list[Tensor]:
    """y, and the gradients of x, residual and parameters."""
    inputs = [x.detach().requires_grad_()]
    inputs += [] if residual is None else [residual.detach().requires_grad_()]
    y = layer(*inputs)
    return [y.detach(), *torch.autograd.grad(y, [*inputs, *layer.parameters()], dy)]


def same_bits(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
