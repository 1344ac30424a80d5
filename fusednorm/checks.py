"""Bad input, said plainly: each error names the argument, what came and what was expected."""

from __future__ import annotations

import contextlib
import numbers
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor

from .engine.activations import NAMES as ACTIVATIONS
from .engine.entry import transformed
from .heads import RESTRICTIONS
from .heads.user import scale_and_shift

FLOAT_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def check_input(x: Tensor, channels: int | None = None, dims: Sequence[int] = (2, 3, 4, 5)) -> None:
    """x: a floating-point tensor (N, C, *positions) with the right number of dimensions and channels."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x: expected a tensor, got {type(x).__name__}")
    if x.dtype not in FLOAT_TYPES:
        raise TypeError(f"x: expected float32, float64, bfloat16 or float16, got {_dtype(x)}")
    if x.dim() not in dims:
        expected = " or ".join(f"{d}-D" for d in dims)
        raise ValueError(f"x: expected {expected} input (N, C, *positions), got shape {tuple(x.shape)}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"x: expected {channels} channels in dimension 1, got shape {tuple(x.shape)}")


def check_residual(residual: Tensor | None, x: Tensor) -> None:
    """residual: like x in shape, type and device."""
    if residual is None:
        return
    if not isinstance(residual, Tensor):
        raise TypeError(f"residual: expected a tensor or None, got {type(residual).__name__}")
    if residual.shape != x.shape:
        raise ValueError(f"residual: expected x's shape {tuple(x.shape)}, got {tuple(residual.shape)}")
    if residual.dtype != x.dtype:
        raise TypeError(f"residual: expected x's type {_dtype(x)}, got {_dtype(residual)}")
    if residual.device != x.device:
        raise ValueError(f"residual: expected on x's device {x.device}, got {residual.device}")


def check_parameter(name: str, t: Tensor | None, x: Tensor, shape: tuple[int, ...], required: bool = False) -> None:
    """A parameter: of this shape, on x's device, of a type that x's can be calculated with."""
    if t is None and not required:
        return
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}: expected a tensor{'' if required else ' or None'}, got {type(t).__name__}")
    if t.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(t.shape)}")
    if t.device != x.device:
        raise ValueError(f"{name}: expected on x's device {x.device}, got {t.device}")
    if t.dtype not in FLOAT_TYPES or (t.dtype == torch.float64 and x.dtype != torch.float64):
        raise TypeError(
            f"{name}: expected a type that goes with x's {_dtype(x)} (float32 always does), got {_dtype(t)}"
        )


def check_running(name: str, mean: Tensor | None, var: Tensor | None, x: Tensor, shape: tuple[int, ...]) -> None:
    """Running statistics: both or neither, and no parameters."""
    if (mean is None) != (var is None):
        raise ValueError(f"{name}running_mean, {name}running_var: expected both or neither")
    for which, t in (("running_mean", mean), ("running_var", var)):
        check_parameter(name + which, t, x, shape)
        if t is not None and t.requires_grad:
            raise ValueError(f"{name}{which}: expected a buffer, got a tensor that requires grad")


def check_update(old: Tensor, new: Tensor) -> None:
    """Running statistics under vmap: theirs, too, if the batch's are."""
    if transformed() and is_batchedtensor(new) and not is_batchedtensor(old):
        raise RuntimeError(
            "running statistics: expected one of each for every call under vmap, for training updates them in place, "
            "got one for all; give each its own by torch.func.functional_call with stacked buffers, call the layer in "
            "evaluation, or make it with track_running_stats=False"
        )


def check_statistic(option: str, value: str | None, known: Sequence[str], **tensors: Tensor | None) -> None:
    """A calibration's statistic: a known one with the calibration's tensors, or None without."""
    if value is None:
        for name, t in tensors.items():
            if t is not None:
                raise ValueError(f"{name}: expected None, for {option} is None, got {_kind(t)}")
        return
    check_choice(option, value, known, " or None")
    for name, t in tensors.items():
        if t is None:
            raise TypeError(f"{name}: expected a tensor, for {option} is {value!r}, got NoneType")


def check_scopes(scopes: object, known: Sequence[str]) -> tuple[str, ...]:
    """Scopes of a switchable normalization: some, each once, in a tuple or list."""
    words = f"scopes: expected some of {', '.join(map(repr, known))}, each once, in a tuple or list"
    if not isinstance(scopes, (tuple, list)):
        raise TypeError(f"{words}, got {_kind(scopes)}")
    if not scopes or any(scope not in known for scope in scopes) or len(set(scopes)) != len(scopes):
        raise ValueError(f"{words}, got {scopes!r}")
    return tuple(scopes)


def check_ratios(name: str, t: Tensor, x: Tensor, scopes: int) -> None:
    """Control parameters of a switchable normalization: (k), or (groups of ratios, k)."""
    C = x.shape[1]
    if isinstance(t, Tensor) and t.dim() == 2 and t.shape[0] > 0 and C % t.shape[0] == 0:
        check_parameter(name, t, x, (t.shape[0], scopes))
    else:
        check_parameter(name, t, x, (scopes,), required=True)


def check_rows(name: str, t: Tensor) -> int:
    """The number of rows of a matrix."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(t).__name__}")
    if t.dim() != 2 or t.shape[0] < 1:
        raise ValueError(f"{name}: expected a matrix of at least 1 row, got shape {tuple(t.shape)}")
    return t.shape[0]


def check_window(name: str, t: Tensor) -> None:
    """A convolution's weight along channels."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(t).__name__}")
    if t.dim() != 3 or t.shape[-1] % 2 != 1:
        raise ValueError(f"{name}: expected shape (1, 1, k) with k odd, got {tuple(t.shape)}")


def check_embedding(x: Tensor, similarity: str, embedding: tuple[Tensor, ...]) -> None:
    """Two convolutions each for query and key."""
    if similarity != "mean_difference":
        raise ValueError(f"embedding: expected similarity 'mean_difference' with it, got {similarity!r}")
    if x.dim() != 4:
        raise ValueError(f"x: expected (N, C, H, W) input to embed, got shape {tuple(x.shape)}")
    if len(embedding) != 8:
        raise ValueError(f"embedding: expected 8 tensors, got {len(embedding)}")
    for i, t in enumerate(embedding):
        check_parameter(f"embedding[{i}]", t, x, (1,) if i % 2 else (1, 1, 3, 3), required=True)


def check_components(weight: Tensor) -> int:
    """K of the mixture's weight (K, C)."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight: expected a tensor, got {type(weight).__name__}")
    if weight.dim() != 2 or weight.shape[0] < 1:
        raise ValueError(f"weight: expected shape (K, C) with K of at least 1, got {tuple(weight.shape)}")
    return weight.shape[0]


def check_batch_values(x: Tensor) -> None:
    """Batch statistics need two values a channel."""
    if x.numel() == x.shape[1] and x.numel() > 0:
        raise ValueError(
            f"x: expected more than one value per channel to take batch statistics of, got shape {tuple(x.shape)}"
        )


def check_batch_samples(name: str, x: Tensor) -> None:
    """BN of one value a sample, in a head, needs two samples."""
    if x.shape[0] == 1 and x.numel() > 0:
        hint = "; with one sample use attention_norm=False" if name == "attention_norm" else ""
        raise ValueError(
            f"x: expected at least two samples for {name} to take batch statistics of, got shape {tuple(x.shape)}{hint}"
        )


# By id, not hash: a head need have neither a hash nor weak references; without these it is checked at every pass.
_checked_heads: dict[int, weakref.ref[Any]] = {}


def check_head(head: Callable[..., Any], x: Tensor, parameters: tuple[Tensor, ...]) -> None:
    """A user's head: its results, that it closes over no tensor that wants a gradient, and writes to no parameter.

    At its first pass, and whenever it is compiled; what changes later is not seen.
    """
    if not callable(head):
        raise TypeError(f"head: expected an nn.Module or a function of mean and var, got {type(head).__name__}")
    if isinstance(head, nn.Module) and parameters:
        raise TypeError("parameters: expected none beside an nn.Module, which has its own")
    compiling = torch.compiler.is_compiling()
    if x.numel() == 0 or (not compiling and id(head) in _checked_heads):
        return
    if not compiling and torch.is_inference_mode_enabled():  # whose tensors tell nothing
        with torch.inference_mode(False):
            return check_head(head, x, parameters)
    wide = torch.promote_types(x.dtype, torch.float32)
    planes = torch.ones(x.shape[:2], dtype=wide, device=x.device)
    lent = [_lent(t, wide) for t in parameters]
    with torch.enable_grad():
        if isinstance(head, nn.Module):
            own = {name: _lent(t, wide) for name, t in head.named_parameters()}
            lent = list(own.values())
            own |= {name: _lent(t, wide) for name, t in head.named_buffers()}
            found = torch.func.functional_call(head, own, (planes, planes.clone()))
        else:
            found = head(planes, planes.clone(), *lent)
    for name, t in zip(("scale", "shift"), scale_and_shift(found, x.shape[:2]), strict=True):
        if t.requires_grad:
            raise ValueError(
                f"head: expected every tensor that wants a gradient among its parameters, {name} closes over one"
            )
    if compiling:
        return
    if any(t._version for t in lent):
        raise ValueError("head: expected it to leave its parameters as they are, it writes to one")
    with contextlib.suppress(TypeError):  # no weak references
        key, known = id(head), _checked_heads
        known[key] = weakref.ref(head, lambda _: known.pop(key, None))


def _lent(t: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy, as the engine gives it to a head."""
    return t.detach().to(dtype, copy=True) if t.is_floating_point() else t.detach().clone()


def _kind(value: object) -> str:
    return repr(value) if isinstance(value, str) else type(value).__name__


def check_choice(name: str, value: object, choices: Sequence[str], otherwise: str = "") -> None:
    """An option with named values."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}{otherwise}, got {value!r}")


def check_restrict(name: str, value: object) -> None:
    """The name of a function between 0 and 1, or a function."""
    if not callable(value):
        check_choice(name, value, RESTRICTIONS, " or a function")


def check_act(act: str | None) -> None:
    """The activation a layer ends with."""
    if act is not None:
        check_choice("act", act, ACTIVATIONS[1:], " or None")


def check_count(name: str, value: Any) -> None:
    """A number of things of which there must be at least one."""
    if isinstance(value, bool) or not (isinstance(value, int) or hasattr(value, "__index__")):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")


def check_groups(num_groups: int, num_channels: int, name: str = "num_groups") -> None:
    """Groups of channels of one size."""
    check_count(name, num_groups)
    check_count("num_channels", num_channels)
    if num_channels % num_groups != 0:
        raise ValueError(f"{name}: expected a divisor of num_channels = {num_channels}, got {num_groups}")


def check_eps(name: str, value: float) -> None:
    """A variance's guard."""
    _check_number(name, value)
    if not value >= 0:
        raise ValueError(f"{name}: expected a number of at least 0, got {value}")


def check_momentum(value: float | None) -> None:
    """A weight of the newest batch, or None for the cumulative average."""
    if value is not None:
        _check_number("momentum", value, " or None")


def _check_number(name: str, value: object, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number{otherwise}, got {type(value).__name__}")


def _dtype(t: Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")
