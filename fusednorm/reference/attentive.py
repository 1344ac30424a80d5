"""Attentive Normalization (AN): Li, Sun, Wu, ECCV 2020, eqs. 6-11.

    y[n,c,i] = sum_k lambda[n,k] (gamma[k,c] x_hat[n,c,i] + beta[k,c])                    eq. 8
    lambda   = A1(x) = Act(fc(s(x)))   or   A2(x) = Act(BN(fc(s(x))))                     eqs. 7, 11

The attention input s comes from x itself, not from x_hat (footnote 1), and summarizes each plane x[n,c].

Where the paper and its official code differ, or the paper is silent, we follow the code:

- RSD. Footnote 2: mean / (std + eps), without a size of eps or a word on bias. Code: mean / sqrt(v + 1e-3)
  with the plane's UNBIASED variance v. A plane of one position has v = 0 here, so that s is finite; in the
  code v = 0/0 and the output is NaN.
- The inputs "mean" and "mean_std" have no official code. Our std is RSD's denominator, and "mean_std" is
  the concatenation in that order.
- The fc layer has a bias in A1 and none in A2, where BN would cancel it.
- The BN of A2 averages over the N samples only, with eps 1e-5 and momentum 0.1 whatever the outer ones are.
- The code has A2 with hsigmoid, sigmoid, softmax and, over Group Normalization, only A1. The paper restricts
  nothing, so every combination exists here.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .activation import check_act
from .batch_norm import Batch, BatchNorm1d
from .group_norm import Group
from .options import check_choice
from .parts import NormLayer, Part, Recalibration, linear, per_plane
from .standardize import instance_moments

ATTENTION_INPUTS = ("mean", "mean_std", "rsd")
ATTENTION_ACTS = ("relu", "sigmoid", "softmax", "hsigmoid")


def attention_input(x: Tensor, kind: str, eps: float) -> Tensor:
    """s(x), what the attention sees of x (N, C, *positions): (N, C), or (N, 2C) for "mean_std".

    Section 3.3, "Details of Learning Attention Weights", i-iii: the plane's mean, (mean, std), or
    rsd = mean / std, with std = sqrt(unbiased variance + eps).
    """
    mu, var = (moment.flatten(1) for moment in instance_moments(x))
    if kind == "mean":
        return mu
    positions = math.prod(x.shape[2:])
    std = torch.sqrt(var * positions / max(positions - 1, 1) + eps)
    if kind == "mean_std":
        return torch.cat((mu, std), dim=1)
    if kind == "rsd":
        return mu / std
    raise ValueError(f"attention_input must be one of {', '.join(ATTENTION_INPUTS)}, got {kind!r}")


def attention_activation(a: Tensor, kind: str) -> Tensor:
    """Act(a) of eq. 11, (N, K) -> (N, K); the softmax is over the K components."""
    if kind == "relu":
        return functional.relu(a)
    if kind == "sigmoid":
        return torch.sigmoid(a)
    if kind == "softmax":
        return torch.softmax(a, dim=1)
    if kind == "hsigmoid":
        return (a + 3).clamp(0, 6) / 6
    raise ValueError(f"attention_act must be one of {', '.join(ATTENTION_ACTS)}, got {kind!r}")


def attentive_recalibration(x_hat: Tensor, lambda_: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Eq. 8 by way of eq. 9: x_hat (N, C, *positions), lambda_ (N, K), gamma and beta (K, C)."""
    Gamma, Beta = lambda_ @ gamma, lambda_ @ beta
    return per_plane(Gamma, x_hat) * x_hat + per_plane(Beta, x_hat)


class Attentive(Recalibration):
    """The half of AN that is the same whatever x_hat is: the mixture and its attention, eqs. 7-11.

    State: weight = gamma (K, C), bias = beta (K, C), attention.weight (K, C), or (K, 2C) for "mean_std",
    attention.bias (K,) in A1 (`attention_norm=False`), attention_norm.* of a BatchNorm1d(K) in A2, which has
    running statistics with `track_running_stats`.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    attention: nn.Linear
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
        Part.__init__(self)
        check_choice("attention_input", attention_input, ATTENTION_INPUTS)
        check_choice("attention_act", attention_act, ATTENTION_ACTS)
        self.num_components = num_components
        self.attention_input = attention_input
        self.attention_act = attention_act
        self.attention_eps = attention_eps
        K, C = num_components, num_channels
        inputs = 2 * C if attention_input == "mean_std" else C
        self.weight = nn.Parameter(torch.empty(K, C, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(K, C, device=device, dtype=dtype))
        self.attention = nn.Linear(inputs, K, bias=not attention_norm, device=device, dtype=dtype)
        self.attention_norm = (
            BatchNorm1d(K, track_running_stats=track_running_stats, device=device, dtype=dtype)
            if attention_norm
            else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The official initialization: gamma near 1, beta near 0, different from component to component.

        Identical components would get gradients that differ by lambda alone. The networks' builders
        reset the attention's fc by fan_out, to a deviation of sqrt(2 / K).
        """
        nn.init.normal_(self.weight, mean=1.0, std=0.1)
        nn.init.normal_(self.bias, mean=0.0, std=0.1)
        nn.init.kaiming_normal_(self.attention.weight, mode="fan_out", nonlinearity="relu")
        if self.attention.bias is not None:
            nn.init.zeros_(self.attention.bias)

    def attention_weights(self, x: Tensor) -> Tensor:
        """lambda (N, K) = A(x) of eq. 7, x (N, C, *positions)."""
        a = linear(self.attention, attention_input(x, self.attention_input, self.attention_eps))
        if self.attention_norm is not None:
            a = self.attention_norm(a)
        return attention_activation(a, self.attention_act)

    def recalibrate(self, x: Tensor, x_hat: Tensor) -> Tensor:
        lambda_ = self.attention_weights(x)
        gamma, beta = self.weight.to(lambda_.dtype), self.bias.to(lambda_.dtype)
        return attentive_recalibration(x_hat, lambda_, gamma, beta)


class _AttentiveBatchNorm(NormLayer, Batch, Attentive):
    """AN with Batch Normalization: act(eq. 8 + residual); in and out (N, C, *positions).

    State: as in Attentive, and running_mean, running_var (C,), num_batches_tracked. Without `track_running_stats`
    no running statistics exist, attention_norm's neither. The defaults are the paper's best: RSD, A2, hsigmoid.
    """

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Batch.__init__(self, num_features, eps, momentum, track_running_stats, device=device, dtype=dtype)
        Attentive.__init__(
            self,
            num_features,
            num_components,
            attention_input=attention_input,
            attention_norm=attention_norm,
            attention_act=attention_act,
            attention_eps=attention_eps,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.act = check_act(act)


class AttentiveBatchNorm1d(_AttentiveBatchNorm):
    __doc__ = _AttentiveBatchNorm.__doc__
    allowed_dims = (2, 3)


class AttentiveBatchNorm2d(_AttentiveBatchNorm):
    __doc__ = _AttentiveBatchNorm.__doc__
    allowed_dims = (4,)


class AttentiveBatchNorm3d(_AttentiveBatchNorm):
    __doc__ = _AttentiveBatchNorm.__doc__
    allowed_dims = (5,)


class AttentiveGroupNorm(NormLayer, Group, Attentive):
    """AN with Group Normalization: act(eq. 8 + residual); in and out (N, C, *positions).

    num_groups = num_channels is Instance Normalization, num_groups = 1 Layer Normalization. State as in
    AttentiveBatchNorm, less the outer running statistics. The default attention is A1, as in the
    official detection heads: the code has no other over groups.
    """

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Group.__init__(self, num_groups, num_channels, eps)
        Attentive.__init__(
            self,
            num_channels,
            num_components,
            attention_input=attention_input,
            attention_norm=attention_norm,
            attention_act=attention_act,
            attention_eps=attention_eps,
            device=device,
            dtype=dtype,
        )
        self.act = check_act(act)
