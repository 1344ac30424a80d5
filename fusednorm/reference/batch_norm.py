"""Batch Normalization: x_hat of the batch, running statistics for evaluation, y = gamma x_hat + beta."""

import torch
from torch import Tensor, nn

from .activation import activate, check_act
from .standardize import Moments, batch_moments, in_compute_type, standardize


class BatchStandardization(nn.Module):
    """x (N, C, *positions) -> x_hat (eq. 1 of AN), with the batch's statistics or the running ones.

    The running statistics follow torch.nn: running = (1 - momentum) running + momentum batch, where
    running_var takes the UNBIASED batch variance; momentum None means the cumulative average. Without
    `track_running_stats` there are none and evaluation standardizes with the batch's statistics as well.
    """

    allowed_dims: tuple[int, ...] = (2, 3, 4, 5)
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.track_running_stats = track_running_stats
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", torch.ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", torch.zeros((), device=device, dtype=torch.int64))
        else:
            self.register_buffer("running_mean", None)
            self.register_buffer("running_var", None)
            self.register_buffer("num_batches_tracked", None)

    def standardize(self, x: Tensor) -> Tensor:
        """x_hat, of x's shape; training also moves the running statistics."""
        if x.dim() not in self.allowed_dims:
            raise ValueError(f"expected input of {self.allowed_dims} dimensions, got {tuple(x.shape)}")
        if x.shape[1] != self.num_features:
            raise ValueError(f"expected {self.num_features} channels, got {tuple(x.shape)}")
        mu, var = self.moments(x)
        return standardize(x, mu, var, self.eps)

    def moments(self, x: Tensor) -> Moments:
        """mu and var that x is standardized with, of shape (1, C, 1, ...)."""
        if not self.training and self.running_mean is not None and self.running_var is not None:
            per_channel = (1, -1, *(1 for _ in x.shape[2:]))
            return self.running_mean.view(per_channel), self.running_var.view(per_channel)

        values = x.numel() // self.num_features
        if values == 1:
            raise ValueError(f"the variance of a batch needs more than 1 value per channel, got {tuple(x.shape)}")
        mu, var = batch_moments(x)
        self.track(mu.detach().flatten(), var.detach().flatten() * (values / (values - 1)))
        return mu, var

    def track(self, mean: Tensor, unbiased_var: Tensor) -> None:
        """Move the running statistics, if there are any, toward the batch's; both arguments are (C,)."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        p = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.to(mean.dtype)
        self.running_mean.copy_((1 - p) * self.running_mean + p * mean)
        self.running_var.copy_((1 - p) * self.running_var + p * unbiased_var)


class _BatchNorm(BatchStandardization):
    """act(gamma_c x_hat + beta_c + residual), AN eqs. 1 and 2; in and out (N, C, *positions).

    State: weight = gamma (C,) and bias = beta (C,) if `affine`, and the running statistics (C,); the names
    are those of torch.nn.BatchNorm, so state dicts load across.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, track_running_stats, device, dtype)
        self.affine = affine
        self.act = check_act(act)
        if affine:
            self.weight = nn.Parameter(torch.ones(num_features, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(num_features, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.standardize(in_compute_type(x))
        if self.weight is not None and self.bias is not None:
            y = affine(y, self.weight, self.bias)
        return activate(y, residual, self.act).to(x.dtype)


def affine(x_hat: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Channel-wise affine transformation, AN eq. 2: x_hat (N, C, *positions), gamma and beta (C,)."""
    per_channel = (-1, *(1 for _ in x_hat.shape[2:]))
    return gamma.view(per_channel) * x_hat + beta.view(per_channel)


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    allowed_dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    allowed_dims = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    allowed_dims = (5,)
