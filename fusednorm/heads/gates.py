"""Gates: recalibrations that multiply the whole map z = weight x_hat + bias, Gamma = lambda weight, Beta = lambda bias.

lambda (N, C) looks at the planes' means or deviations of z. Without weight and bias, z is x_hat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .planes import Planes, Restrict, Statistics, restricted, root
from .recalibrate import normed


class Gated(NamedTuple):
    """z's plane means and deviations (from `std()`), and what Gamma and Beta are made of."""

    planes: Planes
    weight: Tensor | None
    bias: Tensor | None

    def mean(self) -> Tensor:
        z = self.planes.standardized_mean()
        z = z if self.weight is None else z * self.weight
        return z if self.bias is None else z + self.bias

    def var(self) -> Tensor:
        var = self.planes.standardized_var()
        return var if self.weight is None else var * self.weight.square()

    def times(self, gate: Tensor, statistics: Statistics = ()) -> tuple[Tensor, Tensor | None, Statistics]:
        gamma = gate if self.weight is None else gate * self.weight
        return gamma, None if self.bias is None else gate * self.bias, statistics


@dataclass(frozen=True)
class SqueezeExcite:
    """lambda = R(W2 relu(W1 m + b1) + b2), m the plane means of z (Hu, Shen & Sun, 2018; AN eq. 5)."""

    gate: Restrict = "sigmoid"
    tensors: ClassVar[int] = 6
    needs_moments: ClassVar[bool] = True

    def __call__(
        self,
        planes: Planes,
        weight: Tensor | None,
        bias: Tensor | None,
        reduce_weight: Tensor,
        reduce_bias: Tensor | None,
        expand_weight: Tensor,
        expand_bias: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        z = Gated(planes, weight, bias)
        hidden = torch.relu(F.linear(z.mean(), reduce_weight, reduce_bias))
        return z.times(restricted(F.linear(hidden, expand_weight, expand_bias), self.gate))


@dataclass(frozen=True)
class EfficientChannelAttention:
    """lambda = R(conv(m)), one convolution along the channels (ECA, Wang et al., 2020)."""

    gate: Restrict = "sigmoid"
    tensors: ClassVar[int] = 3
    needs_moments: ClassVar[bool] = True

    def __call__(
        self, planes: Planes, weight: Tensor | None, bias: Tensor | None, conv_weight: Tensor
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        z = Gated(planes, weight, bias)
        # as a product with windows: torch.func differentiates it on every backend
        k = conv_weight.shape[-1]
        windows = F.pad(z.mean(), (k // 2, k // 2)).unfold(1, k, 1)
        return z.times(restricted(windows @ conv_weight.reshape(k), self.gate))


@dataclass(frozen=True)
class StyleRecalibration:
    """lambda = sigmoid(BN(style_weight . (mean, std))), channel by channel, std = sqrt(v + eps) (SRM, Lee, Kim &
    Nam, 2019). The BN takes the batch's statistics when it is given no running ones."""

    eps: float = 1e-5
    tensors: ClassVar[int] = 7
    needs_moments: ClassVar[bool] = True

    def __call__(
        self,
        planes: Planes,
        weight: Tensor | None,
        bias: Tensor | None,
        style_weight: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        norm_mean: Tensor | None,
        norm_var: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        z = Gated(planes, weight, bias)
        of_mean, of_std = style_weight.unbind(1)
        style = of_mean * z.mean() + of_std * torch.sqrt(z.var() + self.eps)
        a, statistics = normed(style, norm_weight, norm_bias, norm_mean, norm_var, planes.pool, True)
        return z.times(torch.sigmoid(a), statistics)


@dataclass(frozen=True)
class GatherExcite:
    """lambda = sigmoid(m): GE-theta-minus with global extent, no parameters (Hu et al., 2018, "Gather-Excite")."""

    tensors: ClassVar[int] = 2
    needs_moments: ClassVar[bool] = True

    def __call__(
        self, planes: Planes, weight: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        z = Gated(planes, weight, bias)
        return z.times(torch.sigmoid(z.mean()))


@dataclass(frozen=True)
class ContextGate:
    """lambda = sigmoid(gain (g - mean_c g)/sigma_c + offset), g the plane means of z: NA (eqs. 7-9) without its
    weighting of positions, the row "mean" of its Table 3."""

    unbiased: bool = False
    eps: float = 1e-5
    tensors: ClassVar[int] = 4
    needs_moments: ClassVar[bool] = True

    def __call__(
        self, planes: Planes, weight: Tensor | None, bias: Tensor | None, gain: Tensor, offset: Tensor
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        z = Gated(planes, weight, bias)
        return z.times(context_gate(z.mean(), gain, offset, self.unbiased, self.eps))


def context_gate(g: Tensor, gain: Tensor, offset: Tensor, unbiased: bool, eps: float) -> Tensor:
    """NA eqs. 7-9 of the context g (N, C). `unbiased`: the official code's deviation, with eps outside the root."""
    d = g - g.mean(1, keepdim=True)
    C = g.shape[1]
    var = d.square().mean(1, keepdim=True)
    sigma = root(var * (C / max(C - 1, 1))) + eps if unbiased else torch.sqrt(var + eps)
    return torch.sigmoid(gain * d / sigma + offset)
