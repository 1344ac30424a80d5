"""Representative Batch Normalization (RBN): Gao, Han, Li, Cheng, Peng, CVPR 2021, in the paper's notation.

X (N, C, *positions). Centering calibration before the batch's statistics are taken, scaling calibration after:

    X_cm = X + w_m K_m                                                        eq. 5
    X_s  = (X_cm - mu_B) / sqrt(var_B + eps), mu_B and var_B (biased) of X_cm  eqs. 6-8
    X_cs = X_s R(w_v K_s + w_b)                                               eq. 9
    Y    = gamma X_cs + beta                                                  eq. 12

K_m is a statistic of each sample's X, K_s of its X_s: "mean" and "std", mu_c and sigma_c over the positions of a
channel, or "spatial_mean" and "spatial_std", mu_s and sigma_s over the channels at a position (Table 3). sigma is
the root of the biased variance, without eps; its derivative at 0 is 0.

Where the paper and its official code differ, we follow the code:

- The running statistics of X_cm follow torch.nn, with the unbiased variance. Eq. 3 stores the biased one.
- "The calibrations play no role at the beginning" of the paper is not so: w_b = 1 makes the gate start as R(1),
  0.73 with the sigmoid.
- The code has (mu_c, mu_c) and the sigmoid only, and overwrites its input by X_cm. We leave X alone.
"""

import torch
from torch import Tensor, nn

from .activation import check_act
from .affine import Affine
from .batch_norm import Batch
from .options import Restrict, check_choice, check_restrict, restricted
from .parts import NormLayer, per_channel
from .statistics import STATISTICS, instance_statistic


class Representative(Batch):
    """X -> X_s, eqs. 5-8. State: center_weight = w_m (C,), 0 at the start, unless `center` (K_m) is None, and the
    running statistics of X_cm (C,).
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
        Batch.__init__(self, num_features, eps, momentum, track_running_stats, device=device, dtype=dtype)
        if center is not None:
            check_choice("center", center, STATISTICS, " or None")
        self.center = center
        self.add_parameter("center_weight", None if center is None else (num_features,), 0.0, device, dtype)

    def centred(self, X: Tensor) -> Tensor:
        """X_cm, eq. 5: a new tensor."""
        if self.center is None or self.center_weight is None:
            return X
        return X + per_channel(self.center_weight, X) * instance_statistic(X, self.center)

    def standardize(self, X: Tensor) -> Tensor:
        self.check_input(X, self.num_features)  # before a wrong X broadcasts against w_m
        return Batch.standardize(self, self.centred(X))


class Scaling(Affine):
    """x_hat -> Y, eqs. 9 and 12. State: weight = gamma and bias = beta (C,) if `affine`; scale_weight = w_v and
    scale_bias = w_b (C,), 0 and 1 at the start, unless `scale` (K_s) is None.
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
        Affine.__init__(self, num_channels, affine, device=device, dtype=dtype)
        if scale is not None:
            check_choice("scale", scale, STATISTICS, " or None")
        check_restrict("restrict", restrict)
        self.scale = scale
        self.restrict = restrict
        shape = None if scale is None else (num_channels,)
        self.add_parameter("scale_weight", shape, 0.0, device, dtype)
        self.add_parameter("scale_bias", shape, 1.0, device, dtype)

    def scaled(self, X_s: Tensor) -> Tensor:
        """X_cs, eq. 9."""
        if self.scale is None or self.scale_weight is None or self.scale_bias is None:
            return X_s
        K_s = instance_statistic(X_s, self.scale)
        a = per_channel(self.scale_weight, X_s) * K_s + per_channel(self.scale_bias, X_s)
        return X_s * restricted(a, self.restrict)

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        return self.transform(self.scaled(x_hat))


class _RepresentativeBatchNorm(NormLayer, Representative, Scaling):
    """act(Y + residual), Y of eq. 12; in and out (N, C, *positions).

    State, the official names: weight, bias, center_weight, scale_weight, scale_bias and the running statistics of
    X_cm, each (C,) or None. The defaults are the paper's; center="mean" with scale="std" is its best, RBN*.
    """

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Representative.__init__(
            self, num_features, eps, momentum, track_running_stats, center=center, device=device, dtype=dtype
        )
        Scaling.__init__(self, num_features, affine, scale=scale, restrict=restrict, device=device, dtype=dtype)
        self.act = check_act(act)


class RepresentativeBatchNorm1d(_RepresentativeBatchNorm):
    __doc__ = _RepresentativeBatchNorm.__doc__
    allowed_dims = (2, 3)


class RepresentativeBatchNorm2d(_RepresentativeBatchNorm):
    __doc__ = _RepresentativeBatchNorm.__doc__
    allowed_dims = (4,)


class RepresentativeBatchNorm3d(_RepresentativeBatchNorm):
    __doc__ = _RepresentativeBatchNorm.__doc__
    allowed_dims = (5,)
