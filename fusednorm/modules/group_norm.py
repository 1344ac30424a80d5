"""GroupNorm with residual and activation in the same pass, and its standardization, for groups, layers and
instances."""

from __future__ import annotations

import torch
from torch import Tensor

from fusednorm import checks, parts
from fusednorm.parts import Part

from .affine import Affine
from .layer import NormLayer, Standardization


class Group(Standardization):
    """x_hat = (x - mu)/sqrt(var + eps), mu and var (biased) of each sample's groups of channels."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self._build_groups(num_groups, num_channels, eps)

    def _build_groups(self, num_groups: int, num_channels: int, eps: float) -> None:
        checks.check_groups(num_groups, num_channels)
        checks.check_eps("eps", eps)
        self.num_groups, self.eps = num_groups, eps
        self.channels = self.num_channels = num_channels

    def reset_parameters(self) -> None:
        """There are none."""

    def standardization(self, x: Tensor) -> Part:
        return parts.group(x, self.num_groups, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class Layer(Group):
    """x_hat = (x - mu)/sqrt(var + eps), mu and var (biased) of each sample: Group with one group."""

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, num_channels, eps)


class Instance(Group):
    """x_hat = (x - mu)/sqrt(var + eps), mu and var (biased) of each plane: Group with a group a channel."""

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(num_channels, num_channels, eps)


class GroupNorm(NormLayer, Group, Affine):
    """GroupNorm over (N, C, *positions) input, with `residual` and `act` in the same pass.

    y = act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) of each sample's groups of
    channels (Wu & He, 2018). One group is layer, num_channels groups are instance normalization.

    Constructor and parameters as torch.nn.GroupNorm's, and `act`: "relu", "relu6", "leaky_relu", "silu",
    "hardswish", "gelu" or None, and `inplace`: whether y is written over x; RuntimeError where a gradient is wanted,
    and where x can't be written to (fusednorm.functional). A group of a single value is standardized to 0 (torch
    raises if the batch has but one).

    Raises:
        ValueError: groups that don't divide the channels, wrong dimensions or channels, a residual unlike x, an
        unknown act. TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (Group, Affine)

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_groups(num_groups, num_channels, eps),
            lambda: self._build_affine(num_channels, affine, device, dtype),
        )
        self.reset_parameters()
