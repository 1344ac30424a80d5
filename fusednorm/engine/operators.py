"""The operators: one for each streaming kernel, with one overload a backend.

`torch.ops.fusednorm.plane_moments.cpu`, `.triton`, `.torch`; the contract is in docs/engine.md. The overloads of
`cpu` and `triton` are opaque to torch.compile and have fake kernels; those of `torch` dissolve into plain PyTorch
operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import torch_kernels
from .layout import compute_dtype, mask_shape, mean_dtype

SCHEMAS = {
    "plane_moments": "(Tensor x) -> (Tensor mean, Tensor var)",
    "plane_affine": "(Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? residual, str act, bool save_mask)"
    " -> (Tensor y, Tensor mask)",
    "plane_affine_inplace": "(Tensor(a!) x, Tensor center, Tensor scale, Tensor shift, Tensor? residual, str act)"
    " -> ()",
    "plane_affine_reduce": "(Tensor dy, Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? residual,"
    " Tensor? mask, str act, bool write_g) -> (Tensor g, Tensor dscale, Tensor dshift)",
    "plane_affine_grad": "(Tensor g, Tensor x, Tensor center, Tensor scale, Tensor shift, Tensor? residual,"
    " Tensor? mask, Tensor? a, Tensor? b, str act) -> Tensor dx",
}

# A whole hot layer (fusednorm.heads' parts that native.py knows) in one operator per direction; only backends with
# native heads have these. standardize, recalibrate, source, gate: native.py's numbers. scopes: one hexadecimal digit
# each, the first lowest, 1 + the place in SCOPES.
_LAYER = (
    "Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, Tensor? mean_weight, Tensor? var_weight,"
    " Tensor? center_weight, Tensor? fc_weight, Tensor? fc_bias, Tensor? norm_weight, Tensor? norm_bias,"
    " Tensor? norm_mean, Tensor? norm_var, Tensor? gate_weight, Tensor? gate_bias, int standardize, int groups,"
    " int scopes, bool unbiased, bool center_std, float eps, int recalibrate, int source, int gate, float source_eps,"
    " float norm_eps, str act"
)
LAYER_SCHEMAS = {
    "norm_forward": f"(Tensor x, Tensor? residual, {_LAYER}, bool save_mask) -> (Tensor y, Tensor mask, Tensor mean,"
    " Tensor var, Tensor scale, Tensor shift, Tensor z, Tensor batch_mean,"
    " Tensor batch_var, Tensor z_mean, Tensor z_var)",
    "norm_forward_inplace": f"(Tensor(a!) x, Tensor? residual, {_LAYER}) -> (Tensor batch_mean, Tensor batch_var,"
    " Tensor z_mean, Tensor z_var)",
    "norm_backward": "(Tensor dy, Tensor x, Tensor? residual, Tensor? mask, Tensor mean, Tensor var, Tensor scale,"
    f" Tensor shift, Tensor z, {_LAYER}, bool need_dx, bool need_dresidual) -> (Tensor dx, Tensor dresidual,"
    " Tensor dweight, Tensor dbias, Tensor dmean_weight, Tensor dvar_weight, Tensor dcenter_weight, Tensor dfc_weight,"
    " Tensor dfc_bias, Tensor dnorm_weight, Tensor dnorm_bias, Tensor dgate_weight, Tensor dgate_bias)",
}
# The layer's tensors, and those of them that have gradients, in the schemas' order.
LAYER_TENSORS = tuple(part.split()[1] for part in _LAYER.split(", ") if part.startswith("Tensor?"))
LAYER_GRADIENTS = tuple(n for n in LAYER_TENSORS if n not in ("running_mean", "running_var", "norm_mean", "norm_var"))
# Of `standardize` those over the batch, and the digit of the scope batch.
BATCH, REPRESENTATIVE, BATCH_SCOPE = 0, 3, 3

_library = torch.library.Library("fusednorm", "DEF")


def _new_planes(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=compute_dtype(x))


def _new_means(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=mean_dtype(x))


def _fake_plane_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return _new_means(x), _new_planes(x)


def _fake_plane_affine(x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    save_mask = args[-1]
    return torch.empty_like(x), x.new_empty(mask_shape(x) if save_mask else (0,), dtype=torch.uint8)


def _fake_plane_affine_inplace(x: Tensor, *args: Any) -> None:
    pass


def _fake_plane_affine_reduce(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    write_g = args[-1]
    return torch.empty_like(x) if write_g else x.new_empty((0,)), _new_planes(x), _new_planes(x)


def _fake_plane_affine_grad(g: Tensor, x: Tensor, *args: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_norm_forward(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    own = dict(zip(LAYER_TENSORS, args, strict=False))
    standardize, _, scopes = args[len(LAYER_TENSORS) :][:3]
    (N, C), K = x.shape[:2], 0 if own["fc_weight"] is None else own["fc_weight"].shape[0]
    normed = own["norm_weight"]
    batch = standardize in (BATCH, REPRESENTATIVE) or any((scopes >> 4 * i) & 15 == BATCH_SCOPE for i in range(4))
    channels = C if batch and own["running_mean"] is None else 0
    components = normed.shape[0] if normed is not None and own["norm_mean"] is None else 0
    sizes = (channels, channels, components, components)
    return (
        *_fake_plane_affine(x, args[-1]),
        _new_means(x),
        *(_new_planes(x) for _ in range(3)),
        x.new_empty((N, K), dtype=mean_dtype(x)),
        *(x.new_empty((size,), dtype=compute_dtype(x)) for size in sizes),
    )


def _fake_norm_forward_inplace(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    return _fake_norm_forward(x, residual, *args, False)[-4:]


def _fake_norm_backward(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    own = dict(zip(LAYER_TENSORS, args[7:], strict=False))
    maps = (torch.empty_like(x) if needed else x.new_empty((0,)) for needed in args[-2:])
    parameters = (own[name] for name in LAYER_GRADIENTS)
    return (*maps, *(x.new_empty((0,) if p is None else p.shape, dtype=compute_dtype(x)) for p in parameters))


_FAKES: dict[str, Callable[..., Any]] = {
    "plane_moments": _fake_plane_moments,
    "plane_affine": _fake_plane_affine,
    "plane_affine_inplace": _fake_plane_affine_inplace,
    "plane_affine_reduce": _fake_plane_affine_reduce,
    "plane_affine_grad": _fake_plane_affine_grad,
    "norm_forward": _fake_norm_forward,
    "norm_forward_inplace": _fake_norm_forward_inplace,
    "norm_backward": _fake_norm_backward,
}


def define(backend: str, layers: bool = False) -> None:
    """Declare the operators of a backend whose kernels are opaque to torch.compile; `layers`: whole layers too."""
    for name, schema in (SCHEMAS | LAYER_SCHEMAS if layers else SCHEMAS).items():
        _library.define(f"{name}.{backend}{schema}", tags=torch.Tag.needs_exact_strides)
        torch.library.register_fake(f"fusednorm::{name}.{backend}", _FAKES[name], lib=_library)


def implement(backend: str, kernels: Any, key: str) -> None:
    """Take the functions of `kernels` that bear the operators' names as a backend's implementation."""
    for name in SCHEMAS:
        _library.impl(f"{name}.{backend}", getattr(kernels, name), key)


for _name, _schema in SCHEMAS.items():
    _library.define(f"{_name}.torch{_schema}")
implement("torch", torch_kernels, "CompositeImplicitAutograd")
