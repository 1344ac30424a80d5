"""GroupNorm with residual and activation in the same pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, functional


class GroupNorm(nn.Module):
    """GroupNorm over (N, C, *positions) input, with `residual` and `act` in the same pass.

    y = act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) of each sample's groups of
    channels (Wu & He, 2018). One group is layer, num_channels groups are instance normalization.

    Constructor and parameters as torch.nn.GroupNorm's, and `act`: "relu", "relu6", "leaky_relu", "silu",
    "hardswish", "gelu" or None. A group of a single value is standardized to 0 (torch
    raises if the batch has but one).

    Raises:
        ValueError: groups that don't divide the channels, wrong dimensions or channels, a residual unlike x, an
        unknown act. TypeError: x is not floating point, or parameters are float64 and x is not.
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
        super().__init__()
        checks.check_groups(num_groups, num_channels)
        checks.check_eps("eps", eps)
        checks.check_act(act)
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine, self.act = eps, affine, act
        if affine:
            self.weight = nn.Parameter(torch.empty(num_channels, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.empty(num_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """weight 1, bias 0."""
        if self.affine:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x, residual and the result: (N, C, *positions) alike."""
        checks.check_input(x, self.num_channels)
        return functional.group_norm(
            x, self.num_groups, self.weight, self.bias, self.eps, residual=residual, act=self.act
        )

    def extra_repr(self) -> str:
        act = f", act={self.act}" if self.act else ""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}{act}"
