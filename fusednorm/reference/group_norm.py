"""Group Normalization; Instance Normalization is one channel a group, Layer Normalization one group."""

import torch
from torch import Tensor

from .activation import check_act
from .affine import Affine
from .options import check_count
from .parts import NormLayer, Part, Standardization
from .standardize import group_moments, standardize


def check_groups(name: str, num_groups: int, num_channels: int) -> None:
    """Groups of channels of one size."""
    check_count(name, num_groups)
    if num_channels % num_groups != 0:
        raise ValueError(f"{name}: expected a divisor of {num_channels} channels, got {num_groups} groups")


class Group(Standardization):
    """x (N, C, *positions) -> x_hat (eq. 1 of AN) with each sample's and group's own statistics."""

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        Part.__init__(self)
        check_groups("num_groups", num_groups, num_channels)
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps

    def standardize(self, x: Tensor) -> Tensor:
        """x_hat, of x's shape."""
        self.check_input(x, self.num_channels)
        mu, var = group_moments(x, self.num_groups)
        return standardize(x, mu, var, self.eps)


class Layer(Group):
    """A sample's own statistics, over all channels and positions."""

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(1, num_channels, eps)


class Instance(Group):
    """A plane's own statistics, over the positions of one channel of one sample."""

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__(num_channels, num_channels, eps)


class GroupNorm(NormLayer, Group, Affine):
    """act(gamma_c x_hat + beta_c + residual), AN eqs. 1 and 2; in and out (N, C, *positions).

    State: weight = gamma (C,) and bias = beta (C,) if `affine`, as torch.nn.GroupNorm.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Group.__init__(self, num_groups, num_channels, eps)
        Affine.__init__(self, num_channels, affine, device=device, dtype=dtype)
        self.act = check_act(act)
