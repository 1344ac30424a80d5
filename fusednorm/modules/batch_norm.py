"""BatchNorm with residual and activation in the same pass, and the running statistics that other layers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusednorm import checks, parts
from fusednorm.parts import Factor, Part

from .affine import Affine
from .layer import NormLayer, Standardization


def statistics_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """Running statistics of 16-bit layers are float32: a momentum of 0.1 would be lost in bfloat16's three digits."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class RunningStatistics(Standardization):
    """The buffers running_mean, running_var and num_batches_tracked, in torch's convention; absent when not tracked.

    Not a subclass of torch's _BatchNorm: convert_sync_batchnorm would replace one silently by plain SyncBN.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    frozen: bool = False  # the running statistics are used in training too, and stay (fusednorm.freeze)

    @property
    def collects(self) -> bool:
        """Whether statistics are the batch's, and running ones follow them."""
        return self.training and not self.frozen

    def _build_statistics(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        checks.check_count("num_features", num_features)
        checks.check_eps("eps", eps)
        checks.check_momentum(momentum)
        self.channels = self.num_features = num_features
        self.eps, self.momentum = eps, momentum
        self.track_running_stats = track_running_stats
        if track_running_stats:
            wide = statistics_dtype(dtype)
            self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=wide))
            self.register_buffer("running_var", torch.ones(num_features, device=device, dtype=wide))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long, device=device))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)

    def reset_running_stats(self) -> None:
        """Back to mean 0, variance 1, no batches."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Running statistics as at the start."""
        self.reset_running_stats()

    def factor(self) -> Factor:
        """The weight of the coming batch in the running statistics; a tensor (no host read) where cumulative."""
        if not self.collects:
            return 0.0
        if self.momentum is not None:
            return self.momentum
        if self.num_batches_tracked is None:
            return 0.0
        return 1.0 / (self.num_batches_tracked + 1).to(torch.float64)

    def counter(self) -> Tensor | None:
        """What counts the coming batch."""
        return self.num_batches_tracked if self.collects else None

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"track_running_stats={self.track_running_stats}" + (", frozen" if self.frozen else "")
        )


class Batch(RunningStatistics):
    """x_hat = (x - mu)/sqrt(var + eps), mu and var (biased) over samples and positions, or running ones.

    Arguments and buffers as torch.nn.BatchNorm2d's, but for `affine`.
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
        super().__init__()
        self._build_statistics(num_features, eps, momentum, track_running_stats, device, dtype)

    def standardization(self, x: Tensor) -> Part:
        return parts.batch(
            x, self.running_mean, self.running_var, self.collects, self.factor(), self.eps, self.counter()
        )


class BatchNormLayer(NormLayer, Batch, Affine):
    """BatchNorm, and what InstanceEnhancementBatchNorm shares with it."""

    halves: tuple[type[Any], ...] = (Batch, Affine)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_statistics(num_features, eps, momentum, track_running_stats, device, dtype),
            lambda: self._build_recalibration(num_features, affine, device, dtype),
        )
        self.reset_parameters()

    def _build_recalibration(
        self, num_channels: int, affine: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        self._build_affine(num_channels, affine, device, dtype)


_DOC = """BatchNorm over {shape} input, with `residual` and `act` in the same pass.

    y = act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) over samples and positions (Ioffe
    & Szegedy, 2015).

    Constructor, parameters, buffers and running statistics as torch.nn.BatchNorm{d}d's, and `act`: "relu", "relu6",
    "leaky_relu", "silu", "hardswish", "gelu" or None, and `inplace`: whether y is written over x; RuntimeError where a
    gradient is wanted, and where x can't be written to (fusednorm.functional). An empty batch leaves all buffers
    alone, num_batches_tracked too.

    Raises:
        ValueError: wrong dimensions or channels, one value per channel in training, a residual unlike x, an unknown
        act. TypeError: x is not floating point, or parameters are float64 and x is not.
    """


class BatchNorm1d(BatchNormLayer):
    __doc__ = _DOC.format(shape="(N, C) or (N, C, L)", d=1)
    dims = (2, 3)


class BatchNorm2d(BatchNormLayer):
    __doc__ = _DOC.format(shape="(N, C, H, W)", d=2)
    dims = (4,)


class BatchNorm3d(BatchNormLayer):
    __doc__ = _DOC.format(shape="(N, C, D, H, W)", d=3)
    dims = (5,)
