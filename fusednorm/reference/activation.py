"""What a network does right after the normalization: add the residual, apply the activation."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": functional.leaky_relu,  # slope 0.01
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    "gelu": functional.gelu,  # the exact one, with erf
}


def activate(y: Tensor, residual: Tensor | None = None, act: str | None = None) -> Tensor:
    """act(y + residual), of y's shape; a missing residual or act is left out."""
    if residual is not None:
        y = y + residual
    return y if act is None else ACTIVATIONS[act](y)


def check_act(act: str | None) -> str | None:
    """act itself, if `activate` knows it."""
    if act is not None and act not in ACTIVATIONS:
        raise ValueError(f"act must be None or one of {', '.join(ACTIVATIONS)}, got {act!r}")
    return act
