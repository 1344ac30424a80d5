"""BatchNorm with residual and activation in the same pass, and the running statistics that other layers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, functional


def statistics_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """Running statistics of 16-bit layers are float32: a momentum of 0.1 would be lost in bfloat16's three digits."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


class RunningStatistics(nn.Module):
    """The buffers running_mean, running_var and num_batches_tracked, in torch's convention; absent when not tracked.

    Not a subclass of torch's _BatchNorm: convert_sync_batchnorm would replace one silently by plain SyncBN.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        momentum: float | None,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        checks.check_count("num_features", num_features)
        checks.check_momentum(momentum)
        self.num_features = num_features
        self.momentum = momentum
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

    @property
    def uses_batch_statistics(self) -> bool:
        """In training, and wherever there are no running ones."""
        return self.training or self.running_mean is None

    def factor(self) -> float | Tensor:
        """The weight of the coming batch in the running statistics; a tensor (no host read) where cumulative."""
        if self.momentum is not None:
            return self.momentum
        if self.num_batches_tracked is None:
            return 0.0
        return 1.0 / (self.num_batches_tracked + 1).to(torch.float64)

    def count_batch(self, x: Tensor) -> None:
        """After a step of training. An empty batch is none: counting it would skew the cumulative average."""
        if self.training and self.num_batches_tracked is not None and x.numel() > 0:
            self.num_batches_tracked.add_(1)


class _BatchNorm(RunningStatistics):
    """act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) over samples and positions."""

    dims: tuple[int, ...]

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
        super().__init__(num_features, momentum, track_running_stats, device, dtype)
        checks.check_eps("eps", eps)
        checks.check_act(act)
        self.eps, self.affine, self.act = eps, affine, act
        if affine:
            self.weight = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """weight 1, bias 0, running statistics as at the start."""
        self.reset_running_stats()
        if self.affine:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x, residual and the result: (N, C, *positions) alike."""
        checks.check_input(x, self.num_features, self.dims)
        y = functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.factor() if self.training else 0.0,
            self.eps,
            residual=residual,
            act=self.act,
        )
        self.count_batch(x)
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}" + (f", act={self.act}" if self.act else "")
        )


_DOC = """BatchNorm over {shape} input, with `residual` and `act` in the same pass.

    y = act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) over samples and positions (Ioffe
    & Szegedy, 2015).

    Constructor, parameters, buffers and running statistics as torch.nn.BatchNorm{d}d's, and `act`: "relu", "relu6",
    "leaky_relu", "silu", "hardswish", "gelu" or None. An empty batch leaves all buffers alone, num_batches_tracked too.

    Raises:
        ValueError: wrong dimensions or channels, one value per channel in training, a residual unlike x, an unknown
        act. TypeError: x is not floating point, or parameters are float64 and x is not.
    """


class BatchNorm1d(_BatchNorm):
    __doc__ = _DOC.format(shape="(N, C) or (N, C, L)", d=1)
    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = _DOC.format(shape="(N, C, H, W)", d=2)
    dims = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = _DOC.format(shape="(N, C, D, H, W)", d=3)
    dims = (5,)
