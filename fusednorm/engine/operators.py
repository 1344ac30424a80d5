"""The operators: one for each streaming kernel, with one overload a backend.

`torch.ops.fusednorm.plane_moments.cpu`, `.triton`, `.torch`; the contract is in docs/engine.md. The overloads of `cpu` and
`triton` are opaque to torch.compile and have fake kernels; those of `torch` dissolve into plain PyTorch operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import torch_kernels
from .layout import compute_dtype, mask_shape

SCHEMAS = {
    "plane_moments": "(Tensor x) -> (Tensor mean, Tensor var)",
    "plane_affine": "(Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? residual, str act, bool save_mask)"
    " -> (Tensor y, Tensor mask)",
    "plane_affine_reduce": "(Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? residual,"
    " Tensor? mask, str act, bool write_g) -> (Tensor g, Tensor dscale, Tensor dshift)",
    "plane_affine_grad": "(Tensor g, Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? residual,"
    " Tensor? mask, Tensor? a, Tensor? b, str act) -> Tensor dx",
}

_library = torch.library.Library("fusednorm", "DEF")


def _new_planes(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=compute_dtype(x))


def _fake_plane_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return _new_planes(x), _new_planes(x)


def _fake_plane_affine(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    save_mask = args[-1]
    return torch.empty_like(x), x.new_empty(mask_shape(x) if save_mask else (0,), dtype=torch.uint8)


def _fake_plane_affine_reduce(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    write_g = args[-1]
    return torch.empty_like(x) if write_g else x.new_empty((0,)), _new_planes(x), _new_planes(x)


def _fake_plane_affine_grad(g: Tensor, x: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(x)


_FAKES: dict[str, Callable[..., Any]] = {
    "plane_moments": _fake_plane_moments,
    "plane_affine": _fake_plane_affine,
    "plane_affine_reduce": _fake_plane_affine_reduce,
    "plane_affine_grad": _fake_plane_affine_grad,
}


def define(backend: str) -> None:
    """Declare the operators of a backend whose kernels are opaque to torch.compile."""
    for name, schema in SCHEMAS.items():
        _library.define(f"{name}.{backend}{schema}", tags=torch.Tag.needs_exact_strides)
        torch.library.register_fake(f"fusednorm::{name}.{backend}", _FAKES[name], lib=_library)


def implement(backend: str, kernels: Any, key: str) -> None:
    """Take the functions of `kernels` that bear the operators' names as a backend's implementation."""
    for name in SCHEMAS:
        _library.impl(f"{name}.{backend}", getattr(kernels, name), key)


for _name, _schema in SCHEMAS.items():
    _library.define(f"{_name}.torch{_schema}")
implement("torch", torch_kernels, "CompositeImplicitAutograd")
