"""One function a layer. The modules of `fusednorm` hold the parameters and call these.

All take x of shape (N, C, *positions) with 0 to 3 position dimensions, in float32, float64, bfloat16 or float16,
contiguous, channels_last or with any other strides; the result has x's type and layout, and neither x nor residual
is written to. Arithmetic is in float32 (float64 for float64 x); parameters may be float32, 16-bit, or (with float64
x) float64. `residual` is added before the activation `act` ("relu", "relu6", "leaky_relu" with slope 0.01, "silu",
"hardswish", "gelu" or None), all in the pass that writes the result. An empty x gives an empty result, zero
gradients, and leaves running statistics alone.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from . import checks
from .engine import normalize
from .heads import ATTENTION_ACTS, ATTENTION_INPUTS, Affine, Attentive, Batch, Group, Head, Running

Factor = float | Tensor


class AttentionNorm(NamedTuple):
    """The batch normalization of the attention's components (AN eq. 11, choice A2); each tensor (K).

    training: whether it takes the batch's statistics and updates its running ones; None: as the layer.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    momentum: Factor = 0.1
    training: bool | None = None


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
) -> Tensor:
    """act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) over samples and positions.

    Arguments as in torch.nn.functional.batch_norm, all (C): in training the batch's statistics are used, and the
    running ones, when given, become (1 - momentum)*running + momentum*batch with the unbiased variance; else the
    running ones are used.
    """
    checks.check_input(x)
    standardize, running = _batch_standardization(x, running_mean, running_var, training, eps)
    _check_affine(x, weight, bias, (x.shape[1],))
    head = Head(standardize, Affine())
    y, statistics = _run(x, residual, head, act, (*running, weight, bias))
    if training:
        _update((running_mean, running_var), statistics, momentum)
    return y


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    act: str | None = None,
) -> Tensor:
    """act(weight*(x - mu)/sqrt(var + eps) + bias + residual), mu and var (biased) of each sample's groups of channels.

    weight and bias are (C). One group is layer, C groups are instance normalization. A group of a single value is
    standardized to 0.
    """
    checks.check_input(x)
    checks.check_groups(num_groups, x.shape[1])
    _check_affine(x, weight, bias, (x.shape[1],))
    head = Head(Group(num_groups, eps), Affine())
    return _run(x, residual, head, act, (weight, bias))[0]


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
    standardize, running = _batch_standardization(x, running_mean, running_var, training, eps)
    attentive = _attentive(x, weight, bias, attention_weight, attention_input, attention_act, attention_eps)
    norm = _attention_norm(x, attention_bias, attention_norm, weight.shape[0], training)
    head = Head(standardize, attentive)
    y, statistics = _run(x, residual, head, act, (*running, weight, bias, attention_weight, attention_bias, *norm))
    if training:
        _update((running_mean, running_var), statistics[:2], momentum)
    _update_attention(attention_norm, statistics[-2:], training)
    return y


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
) -> Tensor:
    """Attentive Normalization over groups of channels: see AttentiveGroupNorm. Arguments as in attentive_batch_norm.

    `training` matters to attention_norm alone.
    """
    checks.check_input(x)
    checks.check_groups(num_groups, x.shape[1])
    attentive = _attentive(x, weight, bias, attention_weight, attention_input, attention_act, attention_eps)
    norm = _attention_norm(x, attention_bias, attention_norm, weight.shape[0], training)
    head = Head(Group(num_groups, eps), attentive)
    y, statistics = _run(x, residual, head, act, (weight, bias, attention_weight, attention_bias, *norm))
    _update_attention(attention_norm, statistics, training)
    return y


def _run(
    x: Tensor, residual: Tensor | None, head: Head, act: str | None, tensors: tuple[Tensor | None, ...]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    checks.check_residual(residual, x)
    checks.check_act(act)
    return normalize(x, residual, head, act, tensors)


def _batch_standardization(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, training: bool, eps: float
) -> tuple[Batch | Running, tuple[Tensor, ...]]:
    """Batch statistics or running ones, and the tensors that go with them."""
    checks.check_eps("eps", eps)
    checks.check_running("", running_mean, running_var, x, (x.shape[1],))
    if training or running_mean is None or running_var is None:
        checks.check_batch_values(x)
        return Batch(eps), ()
    return Running(eps), (running_mean, running_var)


def _check_affine(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...], required: bool = False
) -> None:
    checks.check_parameter("weight", weight, x, shape, required)
    checks.check_parameter("bias", bias, x, shape, required)


def _attentive(
    x: Tensor, weight: Tensor, bias: Tensor, attention_weight: Tensor, source: str, act: str, eps: float
) -> Attentive:
    checks.check_choice("attention_input", source, ATTENTION_INPUTS)
    checks.check_choice("attention_act", act, ATTENTION_ACTS)
    checks.check_eps("attention_eps", eps)
    K, C = checks.check_components(weight), x.shape[1]
    _check_affine(x, weight, bias, (K, C), required=True)
    width = 2 * C if source == "mean_std" else C
    checks.check_parameter("attention_weight", attention_weight, x, (K, width), required=True)
    return Attentive(source, act, eps)


def _attention_norm(
    x: Tensor, attention_bias: Tensor | None, norm: AttentionNorm | None, K: int, training: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The head's last four tensors; without running ones the batch's statistics are taken."""
    checks.check_parameter("attention_bias", attention_bias, x, (K,))
    if norm is None:
        return None, None, None, None
    checks.check_parameter("attention_norm.weight", norm.weight, x, (K,), required=True)
    checks.check_parameter("attention_norm.bias", norm.bias, x, (K,), required=True)
    checks.check_running("attention_norm.", norm.running_mean, norm.running_var, x, (K,))
    if _norm_trains(norm, training) or norm.running_mean is None or norm.running_var is None:
        checks.check_batch_samples(x)
        return norm.weight, norm.bias, None, None
    return norm.weight, norm.bias, norm.running_mean, norm.running_var


def _norm_trains(norm: AttentionNorm, training: bool) -> bool:
    return training if norm.training is None else norm.training


def _update_attention(norm: AttentionNorm | None, statistics: tuple[Tensor | None, ...], training: bool) -> None:
    if norm is not None and _norm_trains(norm, training):
        _update((norm.running_mean, norm.running_var), statistics, norm.momentum)


def _update(running: tuple[Tensor | None, ...], batch: tuple[Tensor | None, ...], factor: Factor) -> None:
    """running = (1 - factor)*running + factor*batch, in place. Neither needs a gradient."""
    for old, new in zip(running, batch, strict=False):  # an empty batch has no statistics
        if old is not None and new is not None:
            weight = factor.to(old.dtype) if isinstance(factor, Tensor) else factor
            old.lerp_(new if new.dtype == old.dtype else new.to(old.dtype), weight)
