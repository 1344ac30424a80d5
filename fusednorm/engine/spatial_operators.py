"""Representative BatchNorm with statistics over channels at each position as one operator a direction, on the CPU
(csrc/cpu/spatial.cpp). whole_spatial.py says for which layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .layout import compute_dtype, mean_dtype, positions

# center, scale: K_m and K_s by their names in Python, or "none". What a layer lacks is empty among the results.
_LAYER = (
    "Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, Tensor? center_weight,"
    " Tensor? gate_weight, Tensor? gate_bias, str center, str scale, str restrict, float eps, str act"
)
_KEPT = "Tensor mean, Tensor var, Tensor t_mean, Tensor t_var, Tensor cov, Tensor u_mean, Tensor u_var"
SCHEMAS = {
    "spatial_forward": f"(Tensor x, Tensor? residual, {_LAYER}) -> (Tensor y, {_KEPT}, Tensor batch_mean,"
    " Tensor batch_var)",
    "spatial_forward_inplace": f"(Tensor(a!) x, Tensor? residual, {_LAYER}) -> (Tensor batch_mean, Tensor batch_var)",
    "spatial_backward": f"(Tensor dy, Tensor x, Tensor? residual, {_KEPT}, {_LAYER}, bool need_dx, bool write_g)"
    " -> (Tensor dx, Tensor g, Tensor dweight, Tensor dbias, Tensor dcenter_weight, Tensor dgate_weight,"
    " Tensor dgate_bias)",
}
TENSORS = tuple(part.split()[1] for part in _LAYER.split(", ") if part.startswith("Tensor?"))
GRADIENTS = tuple(name for name in TENSORS if not name.startswith("running"))

_library = torch.library.Library("fusednorm", "FRAGMENT")


def _fake_forward(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    layer = dict(zip(TENSORS, args, strict=False))
    center, scale = args[len(TENSORS) :][:2]
    N, C, S = *x.shape[:2], positions(x)
    t, u = (N if name.startswith("spatial") else 0 for name in (center, scale))
    channels = C if layer["running_mean"] is None else 0
    sizes = ((N, C), (t, S), (t, S), (t, C), (u, S), (u, S), (channels,), (channels,))
    mean = x.new_empty((N, C), dtype=mean_dtype(x))
    return torch.empty_like(x), mean, *(x.new_empty(size, dtype=compute_dtype(x)) for size in sizes)


def _fake_forward_inplace(x: Tensor, residual: Tensor | None, *args: Any) -> tuple[Tensor, ...]:
    return _fake_forward(x, residual, *args)[-2:]


def _fake_backward(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    layer = dict(zip(TENSORS, args[8:], strict=False))
    maps = (torch.empty_like(x) if needed else x.new_empty((0,)) for needed in args[-2:])
    parameters = (layer[name] for name in GRADIENTS)
    return (*maps, *(x.new_empty((0,) if p is None else p.shape, dtype=compute_dtype(x)) for p in parameters))


def define(backend: str) -> None:
    """Declare the operators of a backend that has them."""
    for name, schema in SCHEMAS.items():
        _library.define(f"{name}.{backend}{schema}", tags=torch.Tag.needs_exact_strides)
    fakes = {"forward": _fake_forward, "forward_inplace": _fake_forward_inplace, "backward": _fake_backward}
    for name, fake in fakes.items():
        torch.library.register_fake(f"fusednorm::spatial_{name}.{backend}", fake, lib=_library)
