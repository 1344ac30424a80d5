"""Recalibrations, checked. All take x (N, C, *positions) first; weight and bias are (C) unless said otherwise."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from fusednorm import checks
from fusednorm.engine import Peers
from fusednorm.heads import (
    ATTENTION_ACTS,
    ATTENTION_INPUTS,
    SIMILARITIES,
    Affine,
    Attentive,
    Context,
    ContextGate,
    EfficientChannelAttention,
    GatherExcite,
    GlobalResponse,
    Scaling,
    SqueezeExcite,
    StyleRecalibration,
)
from fusednorm.heads.planes import Restrict
from fusednorm.heads.scaling import SCALING_STATISTICS

from .part import Factor, Part


class AttentionNorm(NamedTuple):
    """A batch normalization inside a head, over samples (AN eq. 11, choice A2; SRM); each tensor (K).

    training: whether it takes the batch's statistics and updates its running ones; None: as the layer. group: of the
    processes whose samples those are taken over, None for those here.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    momentum: Factor = 0.1
    training: bool | None = None
    counter: Tensor | None = None
    group: Peers | None = None


def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...] | None = None) -> Part:
    shape = (x.shape[1],) if shape is None else shape
    checks.check_parameter("weight", weight, x, shape)
    checks.check_parameter("bias", bias, x, shape)
    return Part(Affine(), (weight, bias))


def attentive(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    attention_weight: Tensor,
    attention_bias: Tensor | None,
    attention_norm: AttentionNorm | None,
    training: bool,
    attention_input: str,
    attention_act: str,
    attention_eps: float,
) -> Part:
    """weight and bias are (K, C)."""
    checks.check_choice("attention_input", attention_input, ATTENTION_INPUTS)
    checks.check_choice("attention_act", attention_act, ATTENTION_ACTS)
    checks.check_eps("attention_eps", attention_eps)
    K, C = checks.check_components(weight), x.shape[1]
    checks.check_parameter("weight", weight, x, (K, C), required=True)
    checks.check_parameter("bias", bias, x, (K, C), required=True)
    width = 2 * C if attention_input == "mean_std" else C
    checks.check_parameter("attention_weight", attention_weight, x, (K, width), required=True)
    checks.check_parameter("attention_bias", attention_bias, x, (K,))
    head = Attentive(attention_input, attention_act, attention_eps)
    tensors = (weight, bias, attention_weight, attention_bias)
    return _with_norm("attention_norm", x, head, tensors, attention_norm, K, training)


def scaling(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    scale_weight: Tensor | None,
    scale_bias: Tensor | None,
    statistic: str | None = "mean",
    restrict: Restrict = "sigmoid",
) -> Part:
    """Without a statistic the affine map alone."""
    plain = affine(x, weight, bias)
    if statistic is None:
        return plain
    checks.check_choice("scale", statistic, SCALING_STATISTICS)
    checks.check_restrict("restrict", restrict)
    own = "enhance" if statistic == "input_mean" else "scale"
    checks.check_parameter(f"{own}_weight", scale_weight, x, (x.shape[1],), required=True)
    checks.check_parameter(f"{own}_bias", scale_bias, x, (x.shape[1],), required=True)
    return Part(Scaling(statistic, restrict), (weight, bias, scale_weight, scale_bias))


def squeeze_excite(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    reduce_weight: Tensor,
    reduce_bias: Tensor | None,
    expand_weight: Tensor,
    expand_bias: Tensor | None,
    gate: Restrict = "sigmoid",
) -> Part:
    """reduce_weight (h, C), reduce_bias (h), expand_weight (C, h), expand_bias (C)."""
    plain = affine(x, weight, bias)
    checks.check_restrict("gate", gate)
    hidden, C = checks.check_rows("reduce_weight", reduce_weight), x.shape[1]
    checks.check_parameter("reduce_weight", reduce_weight, x, (hidden, C), required=True)
    checks.check_parameter("reduce_bias", reduce_bias, x, (hidden,))
    checks.check_parameter("expand_weight", expand_weight, x, (C, hidden), required=True)
    checks.check_parameter("expand_bias", expand_bias, x, (C,))
    return Part(SqueezeExcite(gate), (*plain.tensors, reduce_weight, reduce_bias, expand_weight, expand_bias))


def efficient_channel_attention(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, conv_weight: Tensor, gate: Restrict = "sigmoid"
) -> Part:
    """conv_weight (1, 1, k), k odd."""
    plain = affine(x, weight, bias)
    checks.check_restrict("gate", gate)
    checks.check_window("conv_weight", conv_weight)
    checks.check_parameter("conv_weight", conv_weight, x, (1, 1, conv_weight.shape[-1]), required=True)
    return Part(EfficientChannelAttention(gate), (*plain.tensors, conv_weight))


def style_recalibration(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    style_weight: Tensor,
    norm: AttentionNorm,
    training: bool,
    eps: float,
) -> Part:
    """style_weight (C, 2); the norm's tensors (C)."""
    plain, C = affine(x, weight, bias), x.shape[1]
    checks.check_eps("eps", eps)
    checks.check_parameter("style_weight", style_weight, x, (C, 2), required=True)
    return _with_norm("norm", x, StyleRecalibration(eps), (*plain.tensors, style_weight), norm, C, training)


def gather_excite(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Part:
    return Part(GatherExcite(), affine(x, weight, bias).tensors)


def global_response(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Part:
    checks.check_eps("eps", eps)
    checks.check_parameter("weight", weight, x, (x.shape[1],), required=True)
    checks.check_parameter("bias", bias, x, (x.shape[1],), required=True)
    return Part(GlobalResponse(eps), (weight, bias))


def normalization_attention(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    gain: Tensor,
    offset: Tensor,
    similarity: str | None = "l1",
    embedding: tuple[Tensor, ...] = (),
    unbiased: bool = False,
    eps: float = 1e-5,
) -> Part:
    """gain and offset (1). embedding: weights (1, 1, 3, 3) and biases (1) of query's two convolutions, then key's."""
    plain = affine(x, weight, bias)
    checks.check_eps("eps", eps)
    checks.check_parameter("gain", gain, x, (1,), required=True)
    checks.check_parameter("offset", offset, x, (1,), required=True)
    tensors = (*plain.tensors, gain, offset)
    if similarity is None and not embedding:
        return Part(ContextGate(unbiased, eps), tensors)
    checks.check_choice("similarity", similarity, tuple(SIMILARITIES), " or None")
    assert similarity is not None
    if not embedding:
        return Part(Context(similarity, unbiased, eps), tensors)
    checks.check_embedding(x, similarity, embedding)
    return Part(Context(similarity, unbiased, eps, tuple(x.shape[2:])), (*tensors, *embedding))


def _with_norm(
    name: str,
    x: Tensor,
    head: object,
    tensors: tuple[Tensor | None, ...],
    norm: AttentionNorm | None,
    K: int,
    training: bool,
) -> Part:
    """The head with its BN's four tensors; without running ones the batch's statistics are taken."""
    if norm is None:
        return Part(head, (*tensors, None, None, None, None))
    checks.check_parameter(f"{name}.weight", norm.weight, x, (K,), required=True)
    checks.check_parameter(f"{name}.bias", norm.bias, x, (K,), required=True)
    checks.check_running(f"{name}.", norm.running_mean, norm.running_var, x, (K,))
    trains = training if norm.training is None else norm.training
    running = (norm.running_mean, norm.running_var)
    if not trains and norm.running_mean is not None and norm.running_var is not None:
        return Part(head, (*tensors, norm.weight, norm.bias, *running))
    if norm.group is None:
        checks.check_batch_samples(name, x)
    part = Part(head, (*tensors, norm.weight, norm.bias, None, None), group=norm.group)
    return part._replace(running=running, momentum=norm.momentum, counter=norm.counter) if trains else part
