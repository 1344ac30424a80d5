"""One function a layer. The modules of `fusednorm` hold the parameters and call these.

All take x of shape (N, C, *positions) with 0 to 3 position dimensions, in float32, float64, bfloat16 or float16,
contiguous, channels_last or with any other strides; the result has x's type and layout, and neither x nor residual is
written to. Arithmetic is in float32 (float64 for float64 x); parameters may be float32, 16-bit, or (with float64 x)
float64. `residual` is added before the activation `act` ("relu", "relu6", "leaky_relu" with slope 0.01, "silu",
"hardswish", "gelu" or None), all in the pass that writes the result. An empty x gives an empty result, zero gradients,
and leaves running statistics alone.

With `inplace` the result is x, written over, without another map; RuntimeError where something wants a gradient while
gradients are on (backward needs x as it was), where values of x share memory, or the residual some with x (it may be x
itself), for an inference tensor outside of inference mode, and under torch.func's transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from . import checks, parts
from .engine.maximum import maximum, maximum_inplace
from .heads import UserHead
from .heads.planes import STATISTICS, Restrict
from .inplace import check_inplace
from .parts import AttentionNorm, Factor

__all__ = [
    "AttentionNorm",
    "attentive_batch_norm",
    "attentive_group_norm",
    "batch_norm",
    "efficient_channel_attention",
    "filter_response_norm",
    "fused_norm",
    "gather_excite",
    "global_response_norm",
    "group_norm",
    "instance_enhancement_batch_norm",
    "normalization_attention",
    "representative_batch_norm",
    "squeeze_excite",
    "style_recalibration",
    "switchable_norm",
]


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Factor = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) over samples and positions.

    Arguments as in torch.nn.functional.batch_norm, all (C): in training the batch's statistics are used, and the
    running ones, when given, become (1 - momentum)*running + momentum*batch with the unbiased variance; else the
    running ones are used.
    """
    checks.check_input(x)
    standardize = parts.batch(x, running_mean, running_var, training, momentum, eps)
    return parts.run(x, standardize, parts.affine(x, weight, bias), residual, act, inplace)


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) of each sample's groups of channels.

    weight and bias are (C). One group is layer, C groups are instance normalization. A group of a single value is
    standardized to 0.
    """
    checks.check_input(x)
    return parts.run(x, parts.group(x, num_groups, eps), parts.affine(x, weight, bias), residual, act, inplace)


def attentive_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    attention_weight: Tensor,
    attention_bias: Tensor | None = None,
    attention_norm: AttentionNorm | None = None,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    training: bool = False,
    momentum: Factor = 0.1,
    eps: float = 1e-5,
    *,
    attention_input: str = "rsd",
    attention_act: str = "hsigmoid",
    attention_eps: float = 1e-3,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Attentive Normalization over batch statistics (AN eqs. 7-11): see AttentiveBatchNorm2d for the equations.

    Args:
        x: (N, C, *positions).
        weight, bias: (K, C), the mixture's components.
        attention_weight: (K, C), or (K, 2C) for attention_input "mean_std".
        attention_bias: (K), for the choice A1.
        attention_norm: the BN of the choice A2; in training it takes the batch's statistics and updates its own.
        running_mean, running_var, training, momentum, eps: as in batch_norm.
        attention_input: "mean", "mean_std" or "rsd".
        attention_act: "relu", "sigmoid", "softmax" or "hsigmoid".
        attention_eps: under the root of the plane's standard deviation.
        residual, act: as in this module's docstring.
    """
    checks.check_input(x)
    standardize = parts.batch(x, running_mean, running_var, training, momentum, eps)
    recalibrate = parts.attentive(
        x,
        weight,
        bias,
        attention_weight,
        attention_bias,
        attention_norm,
        training,
        attention_input,
        attention_act,
        attention_eps,
    )
    return parts.run(x, standardize, recalibrate, residual, act, inplace)


def attentive_group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor,
    attention_weight: Tensor,
    attention_bias: Tensor | None = None,
    attention_norm: AttentionNorm | None = None,
    training: bool = False,
    eps: float = 1e-5,
    *,
    attention_input: str = "rsd",
    attention_act: str = "hsigmoid",
    attention_eps: float = 1e-3,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Attentive Normalization over groups of channels: see AttentiveGroupNorm. Arguments as in attentive_batch_norm.

    `training` matters to attention_norm alone.
    """
    checks.check_input(x)
    standardize = parts.group(x, num_groups, eps)
    recalibrate = parts.attentive(
        x,
        weight,
        bias,
        attention_weight,
        attention_bias,
        attention_norm,
        training,
        attention_input,
        attention_act,
        attention_eps,
    )
    return parts.run(x, standardize, recalibrate, residual, act, inplace)


def representative_batch_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    center_weight: Tensor | None = None,
    scale_weight: Tensor | None = None,
    scale_bias: Tensor | None = None,
    training: bool = False,
    momentum: Factor = 0.1,
    eps: float = 1e-5,
    *,
    center: str | None = "mean",
    scale: str | None = "mean",
    restrict: Restrict = "sigmoid",
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Representative BatchNorm (RBN eqs. 5-12): see RepresentativeBatchNorm2d for the equations and options. All (C).

    center_weight goes with `center`, scale_weight and scale_bias with `scale`. Running statistics are those of the
    centred map; the rest is as in batch_norm.
    """
    checks.check_input(x)
    checks.check_statistic("center", center, STATISTICS, center_weight=center_weight)
    checks.check_statistic("scale", scale, STATISTICS, scale_weight=scale_weight, scale_bias=scale_bias)
    standardize = parts.representative(x, center, center_weight, running_mean, running_var, training, momentum, eps)
    recalibrate = parts.scaling(x, weight, bias, scale_weight, scale_bias, scale, restrict)
    return parts.run(x, standardize, recalibrate, residual, act, inplace)


def switchable_norm(
    x: Tensor,
    mean_weight: Tensor,
    var_weight: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Factor = 0.1,
    eps: float = 1e-5,
    *,
    scopes: Sequence[str] = ("instance", "layer", "batch"),
    num_groups: int = 1,
    unbiased: bool = False,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """Switchable Normalization (SN eqs. 3-5): see SwitchableNorm2d for the equations and options.

    mean_weight and var_weight are the control parameters, (k) for k scopes or (groups of ratios, k); running statistics
    (C) are the scope "batch"'s, its variance as it is used.
    """
    checks.check_input(x)
    standardize = parts.switchable(
        x, mean_weight, var_weight, running_mean, running_var, training, momentum, eps, scopes, num_groups, unbiased
    )
    return parts.run(x, standardize, parts.affine(x, weight, bias), residual, act, inplace)


def squeeze_excite(
    x: Tensor,
    reduce_weight: Tensor,
    expand_weight: Tensor,
    reduce_bias: Tensor | None = None,
    expand_bias: Tensor | None = None,
    *,
    gate: Restrict = "sigmoid",
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(x R(W2 relu(W1 m + b1) + b2) + residual), m the plane means: see SqueezeExcite.

    reduce_weight is (h, C), expand_weight (C, h).
    """
    checks.check_input(x)
    recalibrate = parts.squeeze_excite(x, None, None, reduce_weight, reduce_bias, expand_weight, expand_bias, gate)
    return parts.run(x, parts.identity(), recalibrate, residual, act, inplace)


def efficient_channel_attention(
    x: Tensor,
    conv_weight: Tensor,
    *,
    gate: Restrict = "sigmoid",
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(x R(conv(m)) + residual): see EfficientChannelAttention. conv_weight is (1, 1, k)."""
    checks.check_input(x)
    recalibrate = parts.efficient_channel_attention(x, None, None, conv_weight, gate)
    return parts.run(x, parts.identity(), recalibrate, residual, act, inplace)


def style_recalibration(
    x: Tensor,
    style_weight: Tensor,
    norm: AttentionNorm,
    training: bool = False,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(x sigmoid(BN(style_weight . (mean, std))) + residual): see StyleRecalibration. style_weight is (C, 2)."""
    checks.check_input(x)
    recalibrate = parts.style_recalibration(x, None, None, style_weight, norm, training, eps)
    return parts.run(x, parts.identity(), recalibrate, residual, act, inplace)


def gather_excite(
    x: Tensor, *, residual: Tensor | None = None, act: str | None = None, inplace: bool = False
) -> Tensor:
    """act(x sigmoid(m) + residual), m the plane means: see GatherExcite."""
    checks.check_input(x)
    return parts.run(x, parts.identity(), parts.gather_excite(x, None, None), residual, act, inplace)


def global_response_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-6,
    *,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(weight x G/(mean_c G + eps) + bias + x + residual): see GlobalResponseNorm. weight and bias are (C)."""
    checks.check_input(x)
    return parts.run(x, parts.identity(), parts.global_response(x, weight, bias, eps), residual, act, inplace)


def instance_enhancement_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    enhance_weight: Tensor,
    enhance_bias: Tensor,
    training: bool = False,
    momentum: Factor = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """batch_norm with its weight times sigmoid(enhance_weight m + enhance_bias): see InstanceEnhancementBatchNorm2d."""
    checks.check_input(x)
    standardize = parts.batch(x, running_mean, running_var, training, momentum, eps)
    recalibrate = parts.scaling(x, weight, bias, enhance_weight, enhance_bias, "input_mean")
    return parts.run(x, standardize, recalibrate, residual, act, inplace)


def filter_response_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    threshold: Tensor | None = None,
    eps: float = 1e-6,
    *,
    residual: Tensor | None = None,
    inplace: bool = False,
) -> Tensor:
    """max(weight x/sqrt(mean_s x^2 + eps) + bias + residual, threshold): see FilterResponseNorm. All (C)."""
    checks.check_input(x)
    checks.check_parameter("bias", bias, x, (x.shape[1],), required=True)
    checks.check_parameter("threshold", threshold, x, (x.shape[1],))
    standardize = parts.filter_response(eps)
    affine = parts.affine(x, weight, bias)
    as_plain = torch.compiler.is_exporting()  # whether to be trained is not known here
    if threshold is None:
        return parts.run(x, standardize, affine, residual, None, inplace, as_plain)
    if inplace:
        checks.check_residual(residual, x)
        check_inplace(x, residual, (weight, bias, threshold))
        return maximum_inplace(parts.run(x, standardize, affine, residual, None, inplace), threshold)
    wide = torch.promote_types(x.dtype, torch.float32)
    bias, threshold = bias.to(wide), threshold.to(wide)
    z = parts.run(x, standardize, parts.affine(x, weight, bias), residual, None, as_plain=as_plain)
    if wide == x.dtype:
        return maximum(z, threshold)
    # Before rounding: rounded values are often just the threshold, and the gradient is one or the other's.
    with torch.no_grad():
        lowered = parts.affine(x, weight, bias - threshold)
        below = parts.run(x, standardize, lowered, residual, "relu", as_plain=as_plain) == 0
    level = threshold.view(-1, *(1 for _ in x.shape[2:]))
    below = below | threshold.isnan().view(level.shape)  # a comparison would hide it
    return torch.where(below, level, z).to(x.dtype)


def normalization_attention(
    x: Tensor,
    gain: Tensor,
    offset: Tensor,
    *,
    similarity: str | None = "l1",
    embedding: tuple[Tensor, ...] = (),
    unbiased: bool = False,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """The Normalization-Attention module on a map (NA eqs. 4-9): see NormalizationAttention. gain and offset are (1).

    embedding: weights (1, 1, 3, 3) and biases (1) of the two convolutions of query, then of key.
    """
    checks.check_input(x)
    recalibrate = parts.normalization_attention(x, None, None, gain, offset, similarity, embedding, unbiased, eps)
    return parts.run(x, parts.identity(), recalibrate, residual, act, inplace)


def fused_norm(
    x: Tensor,
    head: Callable[..., Any],
    *parameters: Tensor,
    residual: Tensor | None = None,
    act: str | None = None,
    inplace: bool = False,
) -> Tensor:
    """act(scale*x + shift + residual) with (scale, shift) = head(mean, var, *parameters): see FusedNorm.

    head is a function, which must be given every tensor that wants a gradient, or an nn.Module, which has its own.
    """
    checks.check_input(x)
    checks.check_head(head, x, parameters)
    if not isinstance(head, nn.Module):
        return parts.run_head(x, UserHead(head), parameters, residual, act, inplace)
    own, buffers = dict(head.named_parameters()), dict(head.named_buffers())
    tensors = (*own.values(), *buffers.values())
    return parts.run_head(x, UserHead(head, (*own, *buffers), len(own)), tensors, residual, act, inplace)
