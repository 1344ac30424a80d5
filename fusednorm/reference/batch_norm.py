"""Batch Normalization: x_hat of the batch, running statistics for evaluation, y = gamma x_hat + beta."""

import torch
from torch import Tensor

from .activation import check_act
from .affine import Affine
from .parts import NormLayer, Part, Standardization, per_channel
from .standardize import Moments, batch_moments, standardize


class RunningStatistics(Standardization):
    """running_mean, running_var (C,) and num_batches_tracked, as torch.nn has them, or None each.

    running = (1 - momentum) running + momentum batch; momentum None means the cumulative average. Without
    them evaluation takes the batch's statistics as well.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        momentum: float | None,
        tracked: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        Part.__init__(self)
        self.num_features = num_features
        self.momentum = momentum
        if tracked:
            self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", torch.ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", torch.zeros((), device=device, dtype=torch.int64))
        else:
            self.register_buffer("running_mean", None)
            self.register_buffer("running_var", None)
            self.register_buffer("num_batches_tracked", None)

    def running_moments(self, x: Tensor) -> Moments | None:
        """What an evaluation standardizes with, (C, 1, ...), if this is one."""
        if self.training or self.running_mean is None or self.running_var is None:
            return None
        return per_channel(self.running_mean, x), per_channel(self.running_var, x)

    def check_values(self, x: Tensor) -> int:
        """How many values of a channel the batch has."""
        values = x.numel() // self.num_features
        if values == 1:
            raise ValueError(f"x: the variance of a batch needs more than 1 value per channel, got {tuple(x.shape)}")
        return values

    def track(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics, if there are any, toward the batch's, (1, C, 1, ...)."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        mean, var = mean.detach().flatten(), var.detach().flatten()
        self.num_batches_tracked.add_(1)
        p = self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.to(mean.dtype)
        self.running_mean.copy_((1 - p) * self.running_mean + p * mean)
        self.running_var.copy_((1 - p) * self.running_var + p * var)


class Batch(RunningStatistics):
    """x (N, C, *positions) -> x_hat (eq. 1 of AN), with the batch's statistics or the running ones.

    running_var takes the UNBIASED batch variance, as in torch.nn.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        RunningStatistics.__init__(self, num_features, momentum, track_running_stats, device, dtype)
        self.eps = eps
        self.track_running_stats = track_running_stats

    def standardize(self, x: Tensor) -> Tensor:
        """x_hat, of x's shape; training also moves the running statistics."""
        self.check_input(x, self.num_features)
        mu, var = self.moments(x)
        return standardize(x, mu, var, self.eps)

    def moments(self, x: Tensor) -> Moments:
        """mu and var that x is standardized with."""
        running = self.running_moments(x)
        if running is not None:
            return running
        values = self.check_values(x)
        mu, var = batch_moments(x)
        self.track(mu, var * (values / (values - 1)))
        return mu, var


class _BatchNorm(NormLayer, Batch, Affine):
    """act(gamma_c x_hat + beta_c + residual), AN eqs. 1 and 2; in and out (N, C, *positions).

    State: weight = gamma (C,) and bias = beta (C,) if `affine`, and the running statistics (C,); the names
    are those of torch.nn.BatchNorm, so state dicts load across.
    """

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
        Batch.__init__(self, num_features, eps, momentum, track_running_stats, device=device, dtype=dtype)
        Affine.__init__(self, num_features, affine, device=device, dtype=dtype)
        self.act = check_act(act)


class BatchNorm1d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    allowed_dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    allowed_dims = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _BatchNorm.__doc__
    allowed_dims = (5,)
