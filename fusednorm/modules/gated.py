"""Gates of gates.py and normalization_attention.py on a bare map, as layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusednorm import parts
from fusednorm.heads.planes import Restrict
from fusednorm.parts import Part

from . import gates, normalization_attention
from .gates import Identity
from .layer import DIMS, NormLayer, Standardization
from .synchronized import synchronize

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class SqueezeExcite(NormLayer, Identity, gates.SqueezeExcite):
    """act(x lambda + residual), lambda = R(W2 relu(W1 m + b1) + b2), m the plane means of x (Hu, Shen & Sun, 2018).

    x, residual and the result are (N, C, *positions). Arguments and parameters as
    fusednorm.recalibrations.SqueezeExcite's, without weight and bias, and `act`: "relu", "relu6", "leaky_relu",
    "silu", "hardswish", "gelu" or None, and `inplace`: whether y is written over x; RuntimeError where a gradient is
    wanted, and where x can't be written to (fusednorm.functional).

    Raises:
        ValueError: wrong dimensions or channels, a residual unlike x, an unknown act or gate, a reduction below 1.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (Identity, gates.SqueezeExcite)

    def __init__(
        self,
        num_channels: int,
        reduction: int = 16,
        *,
        bias: bool = True,
        gate: Restrict = "sigmoid",
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_identity(num_channels),
            lambda: self._build_squeeze_excite(num_channels, reduction, False, bias, gate, device, dtype),
        )
        self.reset_parameters()


class EfficientChannelAttention(NormLayer, Identity, gates.EfficientChannelAttention):
    """act(x R(conv(m)) + residual), m the plane means of x (ECA, Wang et al., 2020).

    x, residual and the result are (N, C, *positions). Arguments and parameters as
    fusednorm.recalibrations.EfficientChannelAttention's, without weight and bias, and `act` and `inplace` as
    SqueezeExcite's.

    Raises:
        ValueError: wrong dimensions or channels, a residual unlike x, an unknown act or gate, an even kernel_size.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (Identity, gates.EfficientChannelAttention)

    def __init__(
        self,
        num_channels: int,
        kernel_size: int | None = None,
        *,
        gate: Restrict = "sigmoid",
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_identity(num_channels),
            lambda: self._build_eca(num_channels, kernel_size, False, gate, device, dtype),
        )
        self.reset_parameters()


class StyleRecalibration(NormLayer, Identity, gates.StyleRecalibration):
    """act(x sigmoid(BN(style_weight . (mean, std))) + residual) of x's planes (SRM, Lee, Kim & Nam, 2019).

    x, residual and the result are (N, C, *positions). Arguments, parameters and buffers as
    fusednorm.recalibrations.StyleRecalibration's, without weight and bias, and `act` and `inplace` as SqueezeExcite's.

    Raises:
        ValueError: wrong dimensions or channels, a residual unlike x, an unknown act; one sample in training.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (Identity, gates.StyleRecalibration)

    def __init__(
        self,
        num_channels: int,
        *,
        eps: float = 1e-5,
        track_running_stats: bool = True,
        act: str | None = None,
        inplace: bool = False,
        sync: bool = False,
        process_group: ProcessGroup | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_identity(num_channels),
            lambda: self._build_style(num_channels, False, eps, track_running_stats, device, dtype),
        )
        self.reset_parameters()
        synchronize(self, sync, process_group)


class GatherExcite(NormLayer, Identity, gates.GatherExcite):
    """act(x sigmoid(m) + residual), m the plane means of x: GE-theta-minus of global extent (Hu et al., 2018).

    x, residual and the result are (N, C, *positions). No parameters. `act` and `inplace` as SqueezeExcite's.
    The paper's smaller extents, and GE-theta with its parameters, are not here.

    Raises:
        ValueError: wrong dimensions or channels, a residual unlike x, an unknown act.
        TypeError: x is not floating point.
    """

    halves = (Identity, gates.GatherExcite)

    def __init__(self, num_channels: int, *, act: str | None = None, inplace: bool = False) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_identity(num_channels),
            lambda: self._build_affine(num_channels, False, None, None),
        )


class NormalizationAttention(NormLayer, Standardization, normalization_attention.NormalizationAttention):
    """The Normalization-Attention module on a map, (N, C, *positions) input.

    m_c = mean_s x;  Phi_s = -sum_c |x - m| ("l1"), -sum_c (x - m)^2 ("squared"), sum_c x m ("dot"),
                           or -|mean_c x - mean_c m| ("mean_difference")                                  NA eqs. 4, 5
    g = sum_s softmax_s(Phi) x                                                                          NA eq. 6
    y = act(x sigmoid(gain (g - mean_c g)/sigma_c + offset) + residual)                                 NA eqs. 7-9

    Eq. 6 as printed is a ratio of sums, and constant; the text below it says that it is a softmax. sigma is the
    deviation of g over channels: sqrt(biased variance + eps), or, as in the official code, with `unbiased` the root
    of the unbiased variance, plus eps. The official code's similarity is "mean_difference"; its weight2 and bias2 are
    gain and offset. similarity None is the ablation "mean": g = m. One channel has no deviation: its gate is
    sigmoid(offset).

    Traffic, in units of x: 5 forward (plane means, position sums, pooled sums, read and write) and 7 backward; 4 and 6
    for "mean_difference", which needs no plane means, 3 and 5 for None. On `cuda` 2 and 3 for all but the embedding
    where a sample fits the shared memory of a few multiprocessors. A residual adds as everywhere.

    Args:
        similarity: "l1", "squared", "dot", "mean_difference" or None.
        embedding: of mean_c x by two networks of two 3x3 convolutions (40 parameters) before "mean_difference"; (N,
        C, H, W)
            input only (the ablation of section 5.2).
        unbiased: see above.
        eps: see above. With 0 a context that is the same in all channels gives NaN.
        act: "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "hardswish", "gelu" (erf) or None.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).
        device, dtype: of the parameters.

    Parameters: gain (1), which starts as 0, offset (1), as 1; query.*, key.* with `embedding`.

    Raises:
        ValueError: unknown options, embedding without "mean_difference" or of other than 4-D input, a residual unlike
            x.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    halves = (normalization_attention.NormalizationAttention,)
    channels: int | None = None  # type: ignore[assignment]  # any number: no parameter depends on it
    weight = bias = None
    dims = DIMS

    def __init__(
        self,
        *,
        similarity: str | None = "l1",
        embedding: bool = False,
        unbiased: bool = False,
        eps: float = 1e-5,
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(act, inplace, lambda: self._build_context(similarity, embedding, unbiased, eps, device, dtype))
        self.affine = False
        self.reset_parameters()

    def standardization(self, x: Tensor) -> Part:
        return parts.identity()
