"""The operators of layers that know a value per position: one for each kernel, one overload a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import position_kernels
from .layout import compute_dtype, positions

_AFFINE = (
    "Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? outer, Tensor? t, Tensor gain, Tensor bias,"
    " Tensor? gate_weight, Tensor? gate_bias, Tensor? u, Tensor? residual"
)
_INPLACE = _AFFINE.replace("Tensor x", "Tensor(a!) x", 1)
_BACKWARD = f"Tensor dy, {_AFFINE}, Tensor? e_offset, Tensor? e_slope"
SCHEMAS = {
    "position_reduce": "(Tensor x, Tensor center, Tensor weight, str kind) -> Tensor t",
    "plane_pool": "(Tensor x, Tensor center, Tensor q, str kind) -> (Tensor pooled, Tensor slope)",
    "position_moments": "(Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? outer, Tensor? t)"
    " -> (Tensor mean, Tensor var)",
    "position_affine": f"({_AFFINE}, str restrict, str act) -> Tensor y",
    "position_affine_inplace": f"({_INPLACE}, str restrict, str act) -> ()",
    "position_affine_reduce": f"({_BACKWARD}, str restrict, str act, bool write_g) -> (Tensor g, Tensor sums)",
    "position_affine_spread": f"({_BACKWARD}, Tensor? pool, str restrict, str act, bool write_g)"
    " -> (Tensor g, Tensor du, Tensor dt)",
    "position_affine_grad": f"({_BACKWARD}, Tensor? a, Tensor? b, Tensor? outers, Tensor? rows, Tensor? weight,"
    " Tensor? h, str kind, str restrict, str act) -> Tensor dx",
}
# Two of them in one, where a backend gains by it (joint.py); blocks: in which a GPU keeps a sample.
JOINT_SCHEMAS = {
    "position_moments_pool": "(Tensor x, Tensor center, str statistic, int blocks)"
    " -> (Tensor mean, Tensor var, Tensor cov)",
    "position_moments_affine": "(Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? outer, Tensor? t,"
    " Tensor gain, Tensor bias, Tensor gate_weight, Tensor gate_bias, Tensor? residual, str statistic, str restrict,"
    " str act, int blocks) -> (Tensor y, Tensor mean, Tensor var)",
    "position_moments_affine_inplace": "(Tensor(a!) x, Tensor center, Tensor scale, Tensor shift, Tensor? outer,"
    " Tensor? t, Tensor gain, Tensor bias, Tensor gate_weight, Tensor gate_bias, Tensor? residual, str statistic,"
    " str restrict, str act, int blocks) -> ()",
    "position_affine_spread_reduce": "(Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? outer,"
    " Tensor? t, Tensor gain, Tensor bias, Tensor gate_weight, Tensor gate_bias, Tensor u, Tensor? residual,"
    " Tensor du_offset, Tensor du_slope, str restrict, str act, bool write_g, int blocks)"
    " -> (Tensor g, Tensor du, Tensor sums)",
}

_library = torch.library.Library("fusednorm", "FRAGMENT")


def _per_position(x: Tensor) -> Tensor:
    return x.new_empty((x.shape[0], positions(x)), dtype=compute_dtype(x))


def _planes(x: Tensor, *lead: int) -> Tensor:
    return x.new_empty((*lead, *x.shape[:2]), dtype=compute_dtype(x))


def _nothing(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty((0,), dtype=dtype)


def _fake_position_reduce(x: Tensor, *args: Any) -> Tensor:
    return _per_position(x)


def _fake_plane_pool(x: Tensor, center: Tensor, q: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    return _planes(x), _nothing(x, compute_dtype(x)) if kind == "sum" else _planes(x)


def _fake_position_moments(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return _per_position(x), _per_position(x)


def _fake_position_affine(x: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_inplace(x: Tensor, *args: Any) -> None:
    pass


def _fake_g(x: Tensor, write_g: bool) -> Tensor:
    return torch.empty_like(x) if write_g else _nothing(x, x.dtype)


def _fake_position_affine_reduce(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    return _fake_g(x, args[-1]), _planes(x, 7)


def _fake_position_affine_spread(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    outer, gate_weight = args[3], args[7]
    du, dt = (_nothing(x, compute_dtype(x)) if t is None else _per_position(x) for t in (gate_weight, outer))
    return _fake_g(x, args[-1]), du, dt


def _fake_position_affine_spread_reduce(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _fake_g(x, args[-2]), _per_position(x), _planes(x, 7)


def _fake_position_moments_pool(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _per_position(x), _per_position(x), _planes(x)


def _fake_position_moments_affine(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), _per_position(x), _per_position(x)


def _fake_position_affine_grad(dy: Tensor, x: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(x)


_FAKES: dict[str, Callable[..., Any]] = {
    "position_reduce": _fake_position_reduce,
    "plane_pool": _fake_plane_pool,
    "position_moments": _fake_position_moments,
    "position_affine": _fake_position_affine,
    "position_affine_inplace": _fake_inplace,
    "position_affine_reduce": _fake_position_affine_reduce,
    "position_affine_spread": _fake_position_affine_spread,
    "position_moments_pool": _fake_position_moments_pool,
    "position_moments_affine": _fake_position_moments_affine,
    "position_moments_affine_inplace": _fake_inplace,
    "position_affine_spread_reduce": _fake_position_affine_spread_reduce,
    "position_affine_grad": _fake_position_affine_grad,
}


def define(backend: str, joint: tuple[str, ...] = ()) -> None:
    """Declare the operators of a backend whose kernels are opaque to torch.compile, and those that are `joint`."""
    for name, schema in (SCHEMAS | {name: JOINT_SCHEMAS[name] for name in joint}).items():
        _library.define(f"{name}.{backend}{schema}", tags=torch.Tag.needs_exact_strides)
        torch.library.register_fake(f"fusednorm::{name}.{backend}", _FAKES[name], lib=_library)


def implement(backend: str, kernels: Any, key: str) -> None:
    """Take the functions of `kernels` that bear the operators' names as a backend's implementation."""
    for name in SCHEMAS:
        _library.impl(f"{name}.{backend}", getattr(kernels, name), key)


for _name, _schema in SCHEMAS.items():
    _library.define(f"{_name}.torch{_schema}")
implement("torch", position_kernels, "CompositeImplicitAutograd")
