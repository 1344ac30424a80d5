"""The Normalization-Attention module as one operator a direction: where a GPU keeps a sample on the chip (`cuda`:
csrc/cuda/context.h), and on the CPU the streaming kernels with the steps between them (`cpu`: csrc/cpu/context.cpp).
whole_context.py says which samples, and in how many blocks of a GPU's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .layout import compute_dtype, mask_shape, mean_dtype, positions

# z = scale*(x - mu) + shift, three tensors (C), is what comes before the gate; without them x itself. outer_scale and
# outer_shift are y's, at the rounded mean; var is zeros: nobody looks at it. dgate: of gain and of offset, for each
# sample. With similarity "none" t, p and pooled have no samples.
_LAYER = (
    "Tensor? mu, Tensor? scale, Tensor? shift, Tensor gain, Tensor offset, str similarity, bool unbiased, float eps,"
    " str act"
)
SCHEMAS = {
    "context_forward": f"(Tensor x, Tensor? residual, {_LAYER}, bool save_mask, int blocks) -> (Tensor y, Tensor mask,"
    " Tensor mean, Tensor var, Tensor outer_scale, Tensor outer_shift, Tensor t, Tensor p, Tensor pooled)",
    "context_forward_inplace": f"(Tensor(a!) x, Tensor? residual, {_LAYER}, int blocks) -> ()",
    "context_backward": "(Tensor dy, Tensor x, Tensor? residual, Tensor? mask, Tensor mean, Tensor? t, Tensor? p,"
    f" Tensor? pooled, {_LAYER}, bool write_g, int blocks) -> (Tensor dx, Tensor g, Tensor dscale, Tensor dshift,"
    " Tensor dgate)",
    # Of x's device: bytes of shared memory that a block may have, multiprocessors, blocks of a cluster.
    "resident_limits": "(Tensor x) -> (int shared, int multiprocessors, int cluster)",
}

_library = torch.library.Library("fusednorm", "FRAGMENT")


def _fake_forward(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    similarity, save_mask = args[5], args[-2]
    N, C, S = *x.shape[:2], positions(x)
    samples = 0 if similarity == "none" else N
    sizes = ((N, C), (N, C), (N, C), (samples, S), (samples, S), (samples, C))
    mask = x.new_empty(mask_shape(x) if save_mask else (0,), dtype=torch.uint8)
    mean = x.new_empty((N, C), dtype=mean_dtype(x))
    return torch.empty_like(x), mask, mean, *(x.new_empty(size, dtype=compute_dtype(x)) for size in sizes)


def _fake_forward_inplace(x: Tensor, *args: Any) -> None:
    pass


def _fake_backward(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    mu, write_g = args[6], args[-2]
    sums = [x.new_empty((0,) if mu is None else x.shape[:2], dtype=compute_dtype(x)) for _ in range(2)]
    dgate = x.new_empty((2, x.shape[0]), dtype=torch.float64)
    return torch.empty_like(x), torch.empty_like(x) if write_g else x.new_empty((0,)), *sums, dgate


def define(backend: str) -> None:
    """Declare the operators of a backend that has them."""
    for name, schema in SCHEMAS.items():
        if name != "resident_limits" or backend == "cuda":
            _library.define(f"{name}.{backend}{schema}", tags=torch.Tag.needs_exact_strides)
    fakes: dict[str, Callable[..., Any]] = {
        "forward": _fake_forward,
        "forward_inplace": _fake_forward_inplace,
        "backward": _fake_backward,
    }
    for name, fake in fakes.items():
        torch.library.register_fake(f"fusednorm::context_{name}.{backend}", fake, lib=_library)
