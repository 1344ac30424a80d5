"""Group Normalization; Instance Normalization is one channel a group, Layer Normalization one group."""

import torch
from torch import Tensor, nn

from .activation import activate, check_act
from .batch_norm import affine as affine_transformation
from .standardize import group_moments, in_compute_type, standardize


class GroupStandardization(nn.Module):
    """x (N, C, *positions) -> x_hat (eq. 1 of AN) with each sample's and group's own statistics."""

    def __init__(self, num_groups: int, num_channels: int, eps: float) -> None:
        super().__init__()
        if num_channels % num_groups != 0:
            raise ValueError(f"{num_channels} channels cannot be split into {num_groups} groups")
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps

    def standardize(self, x: Tensor) -> Tensor:
        """x_hat, of x's shape."""
        if x.shape[1] != self.num_channels:
            raise ValueError(f"expected {self.num_channels} channels, got {tuple(x.shape)}")
        mu, var = group_moments(x, self.num_groups)
        return standardize(x, mu, var, self.eps)


class GroupNorm(GroupStandardization):
    """act(gamma_c x_hat + beta_c + residual), AN eqs. 1 and 2; in and out (N, C, *positions).

    State: weight = gamma (C,) and bias = beta (C,) if `affine`, as torch.nn.GroupNorm.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

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
        super().__init__(num_groups, num_channels, eps)
        self.affine = affine
        self.act = check_act(act)
        if affine:
            self.weight = nn.Parameter(torch.ones(num_channels, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(num_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.standardize(in_compute_type(x))
        if self.weight is not None and self.bias is not None:
            y = affine_transformation(y, self.weight, self.bias)
        return activate(y, residual, self.act).to(x.dtype)
