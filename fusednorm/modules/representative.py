"""Representative Batch Normalization (Gao, Han, Li, Cheng & Peng, 2021): centering and scaling by each sample's own
statistics."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, parts
from fusednorm.heads.planes import STATISTICS, Restrict
from fusednorm.parts import Part

from .affine import Affine
from .batch_norm import RunningStatistics
from .layer import NormLayer, new_parameter


class Representative(RunningStatistics):
    """x_hat = (x + center_weight K_m - mu)/sqrt(var + eps), mu and var of the centred map (RBN eqs. 5-8).

    RepresentativeBatchNorm2d has the arguments. Parameters and buffers: center_weight (C) unless center is None;
    running_mean, running_var (C) of the centred map, num_batches_tracked.
    """

    center_weight: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        *,
        center: str | None = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._build_representative(num_features, eps, momentum, track_running_stats, center, device, dtype)
        self.reset_parameters()

    def _build_representative(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        track_running_stats: bool,
        center: str | None,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if center is not None:
            checks.check_choice("center", center, STATISTICS, " or None")
        self._build_statistics(num_features, eps, momentum, track_running_stats, device, dtype)
        self.center = center
        weight = None if center is None else new_parameter((num_features,), device, dtype)
        self.register_parameter("center_weight", weight)

    def reset_parameters(self) -> None:
        """center_weight 0, running statistics as at the start."""
        self.reset_running_stats()
        if self.center_weight is not None:
            nn.init.zeros_(self.center_weight)

    def standardization(self, x: Tensor) -> Part:
        return parts.representative(
            x,
            self.center,
            self.center_weight,
            self.running_mean,
            self.running_var,
            self.collects,
            self.factor(),
            self.eps,
            self.counter(),
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, center={self.center}"


class Scaling(Affine):
    """y = weight*x_hat*R(scale_weight K_s + scale_bias) + bias, K_s a statistic of x_hat (RBN eq. 9).

    RepresentativeBatchNorm2d has the arguments. Parameters (C): weight, bias with `affine`; scale_weight (0),
    scale_bias (1) unless scale is None.
    """

    scale_weight: nn.Parameter | None
    scale_bias: nn.Parameter | None

    def __init__(
        self,
        num_channels: int,
        affine: bool = True,
        *,
        scale: str | None = "mean",
        restrict: Restrict = "sigmoid",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._build_scaling(num_channels, affine, scale, restrict, device, dtype)
        self.reset_parameters()

    def _build_scaling(
        self,
        num_channels: int,
        affine: bool,
        scale: str | None,
        restrict: Restrict,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if scale is not None:
            checks.check_choice("scale", scale, STATISTICS, " or None")
        checks.check_restrict("restrict", restrict)
        self._build_affine(num_channels, affine, device, dtype)
        self.scale, self.restrict = scale, restrict
        for name in ("scale_weight", "scale_bias"):
            parameter = None if scale is None else new_parameter((num_channels,), device, dtype)
            self.register_parameter(name, parameter)

    def reset_parameters(self) -> None:
        """weight 1, bias 0, scale_weight 0, scale_bias 1."""
        super().reset_parameters()
        if self.scale_weight is not None and self.scale_bias is not None:
            nn.init.zeros_(self.scale_weight)
            nn.init.ones_(self.scale_bias)

    def recalibration(self, x: Tensor) -> Part:
        return parts.scaling(x, self.weight, self.bias, self.scale_weight, self.scale_bias, self.scale, self.restrict)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale}, restrict={self.restrict}"


class _RepresentativeBatchNorm(NormLayer, Representative, Scaling):
    halves = (Representative, Scaling)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        center: str | None = "mean",
        scale: str | None = "mean",
        restrict: Restrict = "sigmoid",
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_representative(num_features, eps, momentum, track_running_stats, center, device, dtype),
            lambda: self._build_scaling(num_features, affine, scale, restrict, device, dtype),
        )
        self.reset_parameters()


_DOC = """Representative BatchNorm, {shape} input.

    x_cm = x + center_weight K_m                                                                        RBN eq. 5
    x_hat = (x_cm - mu)/sqrt(var + eps), mu and var (biased) of x_cm over samples and positions         RBN eqs. 6-8
    y = act(weight*x_hat*R(scale_weight K_s + scale_bias) + bias + residual)                            RBN eqs. 9, 12

    K_m is a statistic of each sample's x, K_s of its x_hat: "mean" and "std" of a channel over positions (mu_c,
    sigma_c), "spatial_mean" and "spatial_std" of a position over channels (mu_s, sigma_s; the paper's Table 3), or None
    for no calibration (Table 2). std is the root of the biased variance, without eps. x is written to only with
    `inplace` (the official code overwrites it). Running statistics are those of x_cm, in torch's convention; in
    evaluation K_m and K_s are still the sample's. The paper says that the calibrations play no part at the beginning;
    with scale_bias 1 the gate in fact starts as R(1), 0.73 with the sigmoid. The official code has "mean" and "mean"
    with the sigmoid alone.

    Traffic, in units of x: 3 forward and 5 backward, as BatchNorm's; with a spatial scale 4 and 7, a spatial center 5
    and 7, both 6 and 9 (on `cpu` a spatial scale 2 less backward, a spatial center 1 less forward). A residual
    adds as everywhere.

    Args:
        num_features: C, channels of the input.
        eps: under the root of the batch variance.
        momentum: weight of a batch in the running statistics; None for their cumulative average.
        affine: whether there are weight and bias.
        track_running_stats: without, evaluation uses the batch's statistics.
        center: K_m.
        scale: K_s.
        restrict: R: "sigmoid", "tanh" ((1 + tanh)/2), "hsigmoid" (clip(a + 3, 0, 6)/6), or a function of a tensor
            or nn.Module, with which the layer runs in plain PyTorch; the gradients of its parameters are autograd's.
        act: "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "hardswish", "gelu" (erf) or None.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).
        device, dtype: of the parameters; buffers of 16-bit layers are float32.

    Parameters and buffers (C): weight (1), bias (0), center_weight (0), scale_weight (0), scale_bias (1); running_mean,
    running_var, and num_batches_tracked. What an option leaves out is None.

    Raises:
        ValueError: wrong dimensions or channels, one value per channel in training, a residual unlike x, an unknown
            option.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """


class RepresentativeBatchNorm1d(_RepresentativeBatchNorm):
    __doc__ = _DOC.format(shape="(N, C) or (N, C, L)")
    dims = (2, 3)


class RepresentativeBatchNorm2d(_RepresentativeBatchNorm):
    __doc__ = _DOC.format(shape="(N, C, H, W)")
    dims = (4,)


class RepresentativeBatchNorm3d(_RepresentativeBatchNorm):
    __doc__ = _DOC.format(shape="(N, C, D, H, W)")
    dims = (5,)
