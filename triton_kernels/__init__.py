"""The `triton` backend: the streaming kernels of docs/engine.md and docs/positions.md in Triton.

Importable without Triton; then `available` says why the kernels are not there.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "available",
    "fits",
    "plane_affine",
    "plane_affine_grad",
    "plane_affine_inplace",
    "plane_affine_reduce",
    "plane_moments",
    "plane_pool",
    "position_affine",
    "position_affine_grad",
    "position_affine_inplace",
    "position_affine_reduce",
    "position_affine_spread",
    "position_moments",
    "position_reduce",
]

try:
    import triton
except ImportError as error:
    _missing = f"Triton cannot be imported ({error})"
    _interpreted = False
else:
    _missing = ""
    _interpreted = bool(triton.knobs.runtime.interpret)  # TRITON_INTERPRET, as the kernels below find it
    from .plane_affine import plane_affine, plane_affine_inplace
    from .plane_affine_grad import plane_affine_grad
    from .plane_affine_reduce import plane_affine_reduce
    from .plane_moments import plane_moments
    from .plane_pool import plane_pool
    from .position_affine import position_affine, position_affine_inplace
    from .position_affine_grad import position_affine_grad
    from .position_affine_reduce import position_affine_reduce
    from .position_affine_spread import position_affine_spread
    from .position_moments import position_moments
    from .position_reduce import position_reduce

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def available() -> tuple[bool, str]:
    """Whether these kernels can run on this machine, and why or why not."""
    if _missing:
        return False, _missing
    if _interpreted:
        return True, "Triton's interpreter (TRITON_INTERPRET) runs the kernels on the CPU"
    if torch.cuda.is_available():
        return True, "there is a CUDA device"  # its name would initialize CUDA, which no import should
    return False, "there is no CUDA device, and TRITON_INTERPRET is not set"


def fits(x: Tensor) -> str | None:
    """None if these kernels can serve x on this machine, else why not."""
    if _missing:
        return _missing
    if not (x.is_cuda or (_interpreted and x.device.type == "cpu")):
        return f"x is on {x.device.type}, not on a CUDA device"
    if x.dtype not in _DTYPES:
        return f"x has type {x.dtype}"
    if x.layout != torch.strided:
        return f"x has layout {x.layout}"
    if not 2 <= x.dim() <= 5:
        return f"x has {x.dim()} dimensions, not 2 to 5"
    return None
