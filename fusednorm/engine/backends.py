"""Which backends exist here, why, and which one serves a tensor."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from . import context_operators, operators, position_operators, spatial_operators

NAMES = ("cpu", "cuda", "triton", "torch")

# By name: in a checkout the package lies outside fusednorm/, where type checkers don't look for it.
_triton_kernels: Any = importlib.import_module("fusednorm.triton_kernels")


@dataclass(frozen=True)
class Backend:
    """A backend as it is here: whether it can run, and why or why not, in words."""

    name: str
    available: bool
    reason: str


def _find_cpu() -> Backend:
    operators.define("cpu", layers=True)
    position_operators.define("cpu", joint=("position_moments_pool", "position_affine_spread_reduce"))
    context_operators.define("cpu")
    spatial_operators.define("cpu")
    if importlib.util.find_spec("fusednorm._C") is None:
        return Backend("cpu", False, "the native extension was not built: no working C++ compiler at installation")
    try:
        from fusednorm import _C
    except ImportError as error:
        return Backend("cpu", False, f"the native extension does not load: {error}")
    info = _C.build_info()
    return Backend("cpu", True, f"native kernels for {info['cpu_isa']}, built with {info['compiler']}")


def _find_cuda() -> Backend:
    operators.define("cuda", layers=True)
    position_operators.define("cuda", joint=tuple(position_operators.JOINT_SCHEMAS))
    context_operators.define("cuda")
    if importlib.util.find_spec("fusednorm._cuda") is None:
        reason = "the CUDA extension was not built: no nvcc, or a torch without CUDA, at installation"
        return Backend("cuda", False, reason)
    try:
        info = importlib.import_module("fusednorm._cuda").build_info()
    except ImportError as error:
        return Backend("cuda", False, f"the CUDA extension does not load: {error}")
    built = f"kernels for {info['architectures']}, built with CUDA {info['cuda']}"
    if not torch.cuda.is_available():
        return Backend("cuda", False, f"there is no CUDA device ({built})")
    return Backend("cuda", True, built)


def _find_triton() -> Backend:
    operators.define("triton")
    position_operators.define("triton")
    available, reason = _triton_kernels.available()
    if available:
        operators.implement("triton", _triton_kernels, "CompositeExplicitAutograd")
        position_operators.implement("triton", _triton_kernels, "CompositeExplicitAutograd")
    return Backend("triton", available, reason)


_backends = {
    "cpu": _find_cpu(),
    "cuda": _find_cuda(),
    "triton": _find_triton(),
    "torch": Backend("torch", True, "plain PyTorch, on any device"),
}


def backends() -> dict[str, Backend]:
    """The backends by name: `.available` says whether one can run here, `.reason` why or why not."""
    return dict(_backends)


def _checked(name: str, source: str) -> str:
    if name not in _backends:
        raise ValueError(f"{source}: expected one of {', '.join(map(repr, NAMES))}, got {name!r}")
    if not _backends[name].available:
        raise ValueError(f"{source}: backend {name!r} can't run here: {_backends[name].reason}")
    return name


# Where the native backends' tensors are.
_DEVICES = {"cpu": "cpu", "cuda": "cuda"}

# What the environment asks for is checked at the first call, not here: an import must not fail for it.
_forced: str | None = os.environ.get("FUSEDNORM_BACKEND") or None
_trusted = _forced is None


_listeners: list[Callable[[str], None]] = []


def _force(name: str | None, trusted: bool) -> None:
    global _forced, _trusted
    _forced, _trusted = name, trusted
    for listener in _listeners:
        listener(name or "")


def tell_choice(listener: Callable[[str], None]) -> None:
    """Call listener with the backend that is asked for ("": none is), now and whenever that changes."""
    _listeners.append(listener)
    listener(_forced or "")


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Have every layer called inside the `with` run on one backend, for the whole process.

    Args:
        name: "cpu", "cuda", "triton" or "torch".

    Raises:
        ValueError: no such backend, or it can't run here. A layer called inside raises ValueError when the backend
            can't take its tensor (`cpu` a tensor on a GPU, say).
    """
    before = _forced, _trusted
    _force(_checked(name, "use_backend"), True)
    try:
        yield
    finally:
        _force(*before)


def choose(x: Tensor) -> str:
    """The backend that serves x: the one asked for, else the fastest that fits its device."""
    if _forced is not None:
        if not _trusted:
            _checked(_forced, "FUSEDNORM_BACKEND")
        if _forced in _DEVICES and x.device.type != _DEVICES[_forced]:
            raise ValueError(f"backend {_forced!r} takes tensors on {_DEVICES[_forced]!r} devices, got x on {x.device}")
        if _forced == "triton":
            problem = _triton_kernels.fits(x)
            if problem is not None:
                raise ValueError(f"backend 'triton' can't take x: {problem}")
        return _forced
    if x.device.type == "cpu" and _backends["cpu"].available:
        return "cpu"
    if x.device.type == "cuda":
        if _backends["cuda"].available and _has_kernels_for(x.device.index):
            return "cuda"
        if _backends["triton"].available:
            return "triton"
    return "torch"


_kernels_for: dict[int, bool] = {}


Function = TypeVar("Function", bound=Callable[..., object])


def assumed_constant(f: Function) -> Function:
    """torch.compiler.assume_constant_result, without importing Dynamo, which takes as long as importing torch."""
    f._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return f


@assumed_constant
def _has_kernels_for(device: int) -> bool:
    """Whether the CUDA extension was built for such a GPU: asked when a tensor comes, not by the import."""
    if device not in _kernels_for:
        _kernels_for[device] = bool(importlib.import_module("fusednorm._cuda").runs_on(device))
    return _kernels_for[device]


def kernel(name: str, backend: str) -> torch._ops.OpOverload:
    """A streaming kernel of a backend, as an operator."""
    return getattr(getattr(torch.ops.fusednorm, name), backend)
