"""Attentive Normalization (Li, Sun & Wu, 2020): a mixture of affine maps, weighted for each sample by attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusednorm import checks, parts
from fusednorm.heads import ATTENTION_ACTS, ATTENTION_INPUTS
from fusednorm.parts import AttentionNorm, Part

from .batch_norm import Batch, BatchNorm1d
from .group_norm import Group
from .layer import NormLayer, Recalibration, new_parameter
from .projection import Projection


def norm_of(layer: BatchNorm1d) -> AttentionNorm:
    """A BatchNorm1d's tensors, for a head that has one inside."""
    assert layer.weight is not None
    assert layer.bias is not None
    running = (layer.running_mean, layer.running_var)
    return AttentionNorm(layer.weight, layer.bias, *running, layer.factor(), layer.collects, layer.counter())


class Attentive(Recalibration):
    """y = sum_k lambda_k (weight_k x_hat + bias_k) (AN eqs. 8-11); AttentiveBatchNorm2d has equations and arguments."""

    weight: nn.Parameter
    bias: nn.Parameter
    attention: Projection
    attention_norm: BatchNorm1d | None

    def __init__(
        self,
        num_channels: int,
        num_components: int = 10,
        *,
        attention_input: str = "rsd",
        attention_norm: bool = True,
        attention_act: str = "hsigmoid",
        attention_eps: float = 1e-3,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._build_attention(
            num_channels,
            num_components,
            attention_input,
            attention_norm,
            attention_act,
            attention_eps,
            track_running_stats,
            device,
            dtype,
        )
        self.reset_parameters()

    def _build_attention(
        self,
        num_channels: int,
        num_components: int,
        attention_input: str,
        attention_norm: bool,
        attention_act: str,
        attention_eps: float,
        track_running_stats: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        checks.check_count("num_channels", num_channels)
        checks.check_count("num_components", num_components)
        checks.check_choice("attention_input", attention_input, ATTENTION_INPUTS)
        checks.check_choice("attention_act", attention_act, ATTENTION_ACTS)
        checks.check_eps("attention_eps", attention_eps)
        self.channels, self.num_components = num_channels, num_components
        self.attention_input, self.attention_act = attention_input, attention_act
        self.attention_eps = attention_eps
        self.weight = new_parameter((num_components, num_channels), device, dtype)
        self.bias = new_parameter((num_components, num_channels), device, dtype)
        width = 2 * num_channels if attention_input == "mean_std" else num_channels
        self.attention = Projection(width, num_components, bias=not attention_norm, device=device, dtype=dtype)
        # eps 1e-5 and momentum 0.1 whatever the layer's own are, as in the official code.
        self.attention_norm = (
            BatchNorm1d(num_components, track_running_stats=track_running_stats, device=device, dtype=dtype)
            if attention_norm
            else None
        )

    def reset_parameters(self) -> None:
        """weight ~ 1 + 0.1 N(0, 1), bias ~ 0.1 N(0, 1) (AN section 4); attention as He (fan out)."""
        nn.init.normal_(self.weight, 1.0, 0.1)
        nn.init.normal_(self.bias, 0.0, 0.1)
        nn.init.kaiming_normal_(self.attention.weight, mode="fan_out", nonlinearity="relu")
        if self.attention.bias is not None:
            nn.init.zeros_(self.attention.bias)
        if self.attention_norm is not None:
            self.attention_norm.reset_parameters()

    def recalibration(self, x: Tensor) -> Part:
        return parts.attentive(
            x,
            self.weight,
            self.bias,
            self.attention.weight,
            self.attention.bias,
            None if self.attention_norm is None else norm_of(self.attention_norm),
            self.training,
            self.attention_input,
            self.attention_act,
            self.attention_eps,
        )

    def extra_repr(self) -> str:
        return (
            f"num_components={self.num_components}, attention_input={self.attention_input}, "
            f"attention_norm={self.attention_norm is not None}, attention_act={self.attention_act}, "
            f"attention_eps={self.attention_eps}"
        )


class _AttentiveBatchNorm(NormLayer, Batch, Attentive):
    halves = (Batch, Attentive)

    def __init__(
        self,
        num_features: int,
        num_components: int = 10,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        *,
        attention_input: str = "rsd",
        attention_norm: bool = True,
        attention_act: str = "hsigmoid",
        attention_eps: float = 1e-3,
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_statistics(num_features, eps, momentum, track_running_stats, device, dtype),
            lambda: self._build_attention(
                num_features,
                num_components,
                attention_input,
                attention_norm,
                attention_act,
                attention_eps,
                track_running_stats,
                device,
                dtype,
            ),
        )
        self.reset_parameters()


_EQUATIONS = """
    x_hat = (x - mu)/sqrt(var + eps), mu and var (biased) over {scope};
    lambda[n] = Act(fc(s[n])) (A1) or Act(BN(fc(s[n]))) (A2, `attention_norm`)                           AN eqs. 7, 11
    y = act(sum_k lambda[n,k]*(weight[k]*x_hat + bias[k]) + residual)                                     AN eq. 8

    s is the mean ("mean"), mean and standard deviation ("mean_std") or their ratio mean/std ("rsd") of each plane of
    x itself, with std = sqrt(S/(S-1)*v + attention_eps), v the biased variance of the plane's S positions. So does
    the official code; the paper prints mean/(std + eps) without the eps' size. A plane of one position has v = 0 and
    thus std = sqrt(attention_eps): finite, where the official code gives NaN. BN is over samples alone, with eps
    1e-5 and momentum 0.1 whatever the layer's are.

    lambda is not normalized except with softmax: at the start its mean is about 1/2, and so the gain about K/2.
"""

_ARGUMENTS = """
        attention_input: s: "mean", "mean_std" or "rsd".
        attention_norm: A2, BN over the attention, which then has no bias; else A1.
        attention_act: Act: "relu", "sigmoid", "softmax" (over the K components) or "hsigmoid" (clip(a + 3, 0, 6)/6).
        attention_eps: under the root of std.
        act: "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "hardswish", "gelu" (erf) or None.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).
        device, dtype: of the parameters; buffers of 16-bit layers are float32.

    Parameters and buffers: weight, bias (K, C); attention.weight (K, C) or (K, 2C), attention.bias (K) in A1;
    attention_norm.* in A2{buffers}.

    Raises:
        ValueError: wrong dimensions or channels, {also}one sample in training with attention_norm, a residual
            unlike x, an unknown option.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

_BATCH_DOC = (
    """Attentive Normalization over batch statistics, {shape} input.
"""
    + _EQUATIONS.replace("{scope}", "samples and positions")
    + """
    Args:
        num_features: C, channels of the input.
        num_components: K, affine maps in the mixture (the paper: 10 in a network's first two stages, 20 in the others).
        eps: under the root of the batch variance.
        momentum: weight of a batch in the running statistics; None for their cumulative average.
        track_running_stats: without, nothing is tracked (nor in attention_norm) and evaluation uses the batch's
            statistics."""
    + _ARGUMENTS.replace(
        "{buffers}",
        ";\n    running_mean, running_var (C), num_batches_tracked. An empty batch leaves all buffers alone",
    ).replace("{also}", "one value per channel in training, ")
)


class AttentiveBatchNorm1d(_AttentiveBatchNorm):
    __doc__ = _BATCH_DOC.format(shape="(N, C) or (N, C, L)")
    dims = (2, 3)


class AttentiveBatchNorm2d(_AttentiveBatchNorm):
    __doc__ = _BATCH_DOC.format(shape="(N, C, H, W)")
    dims = (4,)


class AttentiveBatchNorm3d(_AttentiveBatchNorm):
    __doc__ = _BATCH_DOC.format(shape="(N, C, D, H, W)")
    dims = (5,)


class AttentiveGroupNorm(NormLayer, Group, Attentive):
    __doc__ = (
        """Attentive Normalization over groups of channels, (N, C, *positions) input, as in the paper's detection heads.
"""
        + _EQUATIONS.replace("{scope}", "the channels of a group and positions, per sample")
        + """
    The official code has no A2 over groups (its modes 2, 3, 5 and 6 raise); here it is AN eq. 11 all the same.

    Args:
        num_groups: groups of channels; 1 is layer, num_channels instance standardization.
        num_channels: C, channels of the input.
        num_components: K, affine maps in the mixture.
        eps: under the root of the group's variance."""
        + _ARGUMENTS.replace("{buffers}", "").replace("{also}", "groups that don't divide the channels, ")
    )

    halves = (Group, Attentive)

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        num_components: int = 10,
        eps: float = 1e-5,
        *,
        attention_input: str = "rsd",
        attention_norm: bool = False,
        attention_act: str = "hsigmoid",
        attention_eps: float = 1e-3,
        act: str | None = None,
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_groups(num_groups, num_channels, eps),
            lambda: self._build_attention(
                num_channels,
                num_components,
                attention_input,
                attention_norm,
                attention_act,
                attention_eps,
                True,
                device,
                dtype,
            ),
        )
        self.reset_parameters()
