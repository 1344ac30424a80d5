"""What layers are made of: a standardization x -> x_hat and a recalibration (x, x_hat) -> y.

Both are modules, to be put together by RecalibratedNorm. A named layer is instead both of its parts at once, by
inheritance: so it has their methods and no other, and its parameters have names without a dot.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .activation import activate, check_act
from .standardize import in_compute_type


class Part(nn.Module):
    """A module that may be initialized as several parts, one after the other; the later ones keep what is there."""

    num_channels: int | None  # None: any number

    def __init__(self) -> None:
        if "_parameters" not in self.__dict__:
            super().__init__()

    def forward(self, *inputs: Any) -> Tensor:
        raise NotImplementedError

    def add_parameter(
        self,
        name: str,
        shape: tuple[int, ...] | None,
        start: float,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """A parameter with one starting value, or, with no shape, a name that stands for None."""
        full = None if shape is None else nn.Parameter(torch.full(shape, start, device=device, dtype=dtype))
        self.register_parameter(name, full)


class Standardization(Part):
    """x (N, C, *positions), in the type to calculate in, to x_hat of the same shape."""

    allowed_dims: tuple[int, ...] = (2, 3, 4, 5)

    def standardize(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.standardize(x)

    def check_input(self, x: Tensor, num_channels: int | None) -> None:
        if x.dim() not in self.allowed_dims:
            raise ValueError(f"x: expected input of {self.allowed_dims} dimensions, got {tuple(x.shape)}")
        if num_channels is not None and x.shape[1] != num_channels:
            raise ValueError(f"x: expected {num_channels} channels, got {tuple(x.shape)}")


class Identity(Standardization):
    """x_hat = x: what follows acts on the bare map."""

    def __init__(self, num_channels: int | None) -> None:
        Part.__init__(self)
        self.num_channels = num_channels

    def standardize(self, x: Tensor) -> Tensor:
        self.check_input(x, self.num_channels)
        return x


class Recalibration(Part):
    """x and x_hat, both (N, C, *positions), to y of the same shape."""

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return self.recalibrate(x, x_hat)


class NormLayer(Part):
    """act(recalibrate(x, standardize(x)) + residual); x, residual and result (N, C, *positions).

    Calculates in float32, in float64 for float64 x, and rounds to x's type at the end.
    """

    standardize: Any
    recalibrate: Any
    act: str | None = None

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        z = in_compute_type(x)
        return self.finish(self.recalibrate(z, self.standardize(z)), residual).to(x.dtype)

    def finish(self, y: Tensor, residual: Tensor | None) -> Tensor:
        return activate(y, residual, self.act)


class RecalibratedNorm(NormLayer):
    """Any standardization with any recalibration; state standardize.* and recalibrate.*."""

    def __init__(self, standardize: nn.Module, recalibrate: nn.Module, act: str | None = None) -> None:
        super().__init__()
        self.standardize, self.recalibrate, self.act = standardize, recalibrate, check_act(act)


def per_channel(w: Tensor, x: Tensor) -> Tensor:
    """w (C,) as it multiplies x (N, C, *positions)."""
    return w.view(-1, *(1 for _ in x.shape[2:]))


def per_plane(w: Tensor, x: Tensor) -> Tensor:
    """w (N, C) as it multiplies x (N, C, *positions)."""
    return w.view(*x.shape[:2], *(1 for _ in x.shape[2:]))


def linear(fc: nn.Linear, s: Tensor) -> Tensor:
    """fc(s), in s's type whatever that of the parameters."""
    return functional.linear(s, fc.weight.to(s.dtype), None if fc.bias is None else fc.bias.to(s.dtype))
