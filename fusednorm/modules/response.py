"""Layers that the papers compare with: IEBN, filter response and global response normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, functional, parts
from fusednorm.parts import Part

from .affine import Affine
from .batch_norm import Batch, BatchNormLayer
from .gates import Identity
from .layer import NormLayer, Standardization, new_parameter, with_call


class InstanceEnhancement(Affine):
    """y = weight*sigmoid(enhance_weight m + enhance_bias)*x_hat + bias, m the plane means of x (IEBN, Liang et al.,
    2020).

    Parameters (C): weight (1), bias (0), enhance_weight (0), enhance_bias (-1).
    """

    def __init__(
        self,
        num_channels: int,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._build_enhancement(num_channels, affine, device, dtype)
        self.reset_parameters()

    def _build_enhancement(
        self, num_channels: int, affine: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        self._build_affine(num_channels, affine, device, dtype)
        self.enhance_weight = new_parameter((num_channels,), device, dtype)
        self.enhance_bias = new_parameter((num_channels,), device, dtype)

    def reset_parameters(self) -> None:
        """As the paper starts: a gate of sigmoid(-1) = 0.27 everywhere."""
        super().reset_parameters()
        nn.init.zeros_(self.enhance_weight)
        nn.init.constant_(self.enhance_bias, -1.0)

    def recalibration(self, x: Tensor) -> Part:
        return parts.scaling(x, self.weight, self.bias, self.enhance_weight, self.enhance_bias, "input_mean")


class _InstanceEnhancementBatchNorm(BatchNormLayer, InstanceEnhancement):
    halves = (Batch, InstanceEnhancement)

    def _build_recalibration(
        self, num_channels: int, affine: bool, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        self._build_enhancement(num_channels, affine, device, dtype)


_IEBN_DOC = """Instance enhancement BatchNorm, {shape} input (IEBN, Liang et al., 2020).

    y = act(weight*sigmoid(enhance_weight m + enhance_bias)*x_hat + bias + residual), x_hat as BatchNorm's, m the
    plane means of x. Constructor and buffers as fusednorm.BatchNorm{d}d's; parameters (C): weight (1), bias (0),
    enhance_weight (0), enhance_bias (-1): the gate starts as sigmoid(-1) = 0.27, as the paper's.

    Raises:
        ValueError: wrong dimensions or channels, one value per channel in training, a residual unlike x, an unknown
            act.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """


class InstanceEnhancementBatchNorm1d(_InstanceEnhancementBatchNorm):
    __doc__ = _IEBN_DOC.format(shape="(N, C) or (N, C, L)", d=1)
    dims = (2, 3)


class InstanceEnhancementBatchNorm2d(_InstanceEnhancementBatchNorm):
    __doc__ = _IEBN_DOC.format(shape="(N, C, H, W)", d=2)
    dims = (4,)


class InstanceEnhancementBatchNorm3d(_InstanceEnhancementBatchNorm):
    __doc__ = _IEBN_DOC.format(shape="(N, C, D, H, W)", d=3)
    dims = (5,)


class FilterResponse(Standardization):
    """x_hat = x/sqrt(mean_s x^2 + eps), per plane (FRN, Singh & Krishnan, 2020; there eps may be learned)."""

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self._build_response(num_channels, eps)

    def _build_response(self, num_channels: int, eps: float) -> None:
        checks.check_count("num_channels", num_channels)
        checks.check_eps("eps", eps)
        self.channels = self.num_channels = num_channels
        self.eps = eps

    def reset_parameters(self) -> None:
        """There are none."""

    def standardization(self, x: Tensor) -> Part:
        return parts.filter_response(self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}"


class FilterResponseNorm(NormLayer, FilterResponse, Affine):
    """max(weight*x/sqrt(mean_s x^2 + eps) + bias + residual, threshold): filter response normalization with its
    thresholded linear unit (FRN and TLU, Singh & Krishnan, 2020). (N, C, *positions) input.

    The maximum is taken after the fused passes: they are 3 forward and 5 backward, in units of x, and it costs 2 and 5
    more; for maps of 16 bits, in PyTorch, some 11 and 17, and a byte a value kept for backward. Where both are equal
    the gradient is the threshold's.

    Args:
        num_channels: C.
        eps: under the root.
        threshold: whether there is one; else the layer ends with the sum.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).

    Parameters (C): weight (1), bias (0), threshold (0).

    The paper learns eps where planes have one position, and has no residual before the threshold; here eps is fixed.

    Raises:
        ValueError: wrong dimensions or channels, a residual unlike x, eps below 0.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (FilterResponse, Affine)
    threshold: nn.Parameter | None

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        *,
        threshold: bool = True,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            None,
            inplace,
            lambda: self._build_response(num_channels, eps),
            lambda: self._build_affine(num_channels, True, device, dtype),
        )
        self.register_parameter("threshold", new_parameter((num_channels,), device, dtype) if threshold else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """weight 1, bias and threshold 0."""
        super().reset_parameters()
        if self.threshold is not None:
            nn.init.zeros_(self.threshold)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x, residual and the result: (N, C, *positions) alike."""
        checks.check_input(x, self.channels)
        assert self.weight is not None
        assert self.bias is not None
        return functional.filter_response_norm(
            x, self.weight, self.bias, self.threshold, self.eps, residual=residual, inplace=self.inplace
        )

    def extra_repr(self) -> str:
        threshold = f"threshold={self.threshold is not None}"
        return with_call(FilterResponse.extra_repr(self), threshold, inplace=self.inplace)


class GlobalResponse(Affine):
    """y = weight*x_hat*G/(mean_c G + eps) + bias + x_hat, G the L2 norm of a plane (ConvNeXt V2, Woo et al., 2023).

    Parameters (C): weight, bias, both 0 at the start.
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self._build_global(num_channels, eps, device, dtype)
        self.reset_parameters()

    def _build_global(
        self, num_channels: int, eps: float, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        self._build_affine(num_channels, True, device, dtype)
        checks.check_eps("eps", eps)
        self.response_eps = eps

    def reset_parameters(self) -> None:
        """weight and bias 0: nothing but x_hat."""
        assert self.weight is not None
        assert self.bias is not None
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def recalibration(self, x: Tensor) -> Part:
        assert self.weight is not None
        assert self.bias is not None
        return parts.global_response(x, self.weight, self.bias, self.response_eps)

    def extra_repr(self) -> str:
        return f"response_eps={self.response_eps}"


class GlobalResponseNorm(NormLayer, Identity, GlobalResponse):
    """act(weight*x*G/(mean_c G + eps) + bias + x + residual), G the L2 norm of a plane of x (ConvNeXt V2, Woo et al.,
    2023).

    x, residual and the result are (N, C, *positions). Parameters (C): weight, bias, both 0 at the start. `act` and
    `inplace` as SqueezeExcite's. The paper's eq. 2 divides G by its sum over channels, its Algorithm 1 by the mean, as
    here.

    Raises:
        ValueError: wrong dimensions or channels, a residual unlike x, an unknown act, eps below 0.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (Identity, GlobalResponse)

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        *,
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_identity(num_channels),
            lambda: self._build_global(num_channels, eps, device, dtype),
        )
        self.reset_parameters()
