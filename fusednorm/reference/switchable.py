"""Switchable Normalization (SN): Luo, Ren, Peng, Zhang, Li, ICLR 2019, in the paper's notation.

    h_hat = gamma (h - sum_k w_k mu_k) / sqrt(sum_k w'_k sigma2_k + eps) + beta            eq. 3
    w = softmax(lambda), w' = softmax(lambda')                                             eq. 5

over the scopes k: "instance" (a plane), "layer" (a sample), "batch" (a channel), "group" (a sample's groups of
channels, appendix G). All variances are biased, eq. 4.

Where the paper and its official code differ:

- `unbiased`: the code's variance of a plane is unbiased, and the other scopes' are made of it by
  mean(var_in + mu_in^2) - mu^2, which is neither the biased nor the unbiased variance of all their values.
  SwitchNorm1d, without positions, has the unbiased variances over C and N values. One value has variance 0
  here, where the code gives NaN.
- The running statistics are mu and sigma2 of the batch scope themselves. Momentum is torch's, the weight of the
  new batch; the code's is that of the old value. They start as 0 and 1, the code's as 0 and 0.
- Group SN (`per_group`): each of so many groups of channels has ratios of its own. Whether its layer scope spans
  the group or all channels is not said; here all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .activation import check_act
from .affine import Affine
from .batch_norm import RunningStatistics
from .group_norm import check_groups
from .options import check_choice
from .parts import NormLayer, per_channel
from .standardize import Moments, batch_moments, group_moments, standardize

SCOPES = ("instance", "layer", "batch", "group")
AVERAGES = ("moving", "batch")


def scope_moments(h: Tensor, scope: str, num_groups: int = 1, unbiased: bool = False) -> Moments:
    """mu_k and sigma2_k of a scope, broadcastable to h (N, C, *positions)."""
    N, C = h.shape[:2]
    groups = {"instance": C, "layer": 1, "group": num_groups}
    mu, var = batch_moments(h) if scope == "batch" else group_moments(h, groups[scope])
    if not unbiased:
        return mu, var
    S = h[0, 0].numel()
    if S > 1:
        # var = mean(v) + mean((m - mu)^2), where v S/(S-1) = v + v/(S-1) is to replace v.
        v = group_moments(h, C)[1]
        mean_v, _ = batch_moments(v) if scope == "batch" else group_moments(v, groups[scope])
        return mu, var + mean_v / (S - 1)
    values = N if scope == "batch" else C // groups[scope]
    return mu, var * (values / max(values - 1, 1))


class Switchable(RunningStatistics):
    """h (N, C, *positions) -> (h - mu) / sqrt(sigma2 + eps) of eq. 3.

    State: mean_weight = lambda and var_weight = lambda', all 1 at the start, (k,) in the order of `scopes`, or
    (per_group, k); with the batch scope and `track_running_stats` running_mean, running_var (C,) and
    num_batches_tracked.

    `average`: "moving" averages in training, "batch" leaves the running statistics to be found afterwards.
    `num_groups`: of the scope "group".
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        *,
        scopes: Sequence[str] = ("instance", "layer", "batch"),
        average: str = "moving",
        unbiased: bool = False,
        per_group: int = 1,
        num_groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        scopes = tuple(scopes)
        RunningStatistics.__init__(
            self, num_features, momentum, track_running_stats and "batch" in scopes, device, dtype
        )
        for scope in scopes:
            check_choice("scopes", scope, SCOPES)
        if not scopes or len(set(scopes)) < len(scopes):
            raise ValueError(f"scopes: expected different ones of {', '.join(SCOPES)}, got {scopes}")
        check_choice("average", average, AVERAGES)
        check_groups("per_group", per_group, num_features)
        check_groups("num_groups", num_groups, num_features)
        self.eps = eps
        self.track_running_stats = track_running_stats
        self.scopes, self.average, self.unbiased = scopes, average, unbiased
        self.per_group, self.num_groups = per_group, num_groups
        k = len(scopes)
        shape = (k,) if per_group == 1 else (per_group, k)
        self.mean_weight = nn.Parameter(torch.ones(shape, device=device, dtype=dtype))
        self.var_weight = nn.Parameter(torch.ones(shape, device=device, dtype=dtype))

    def ratios(self, control: Tensor) -> Tensor:
        """w of eq. 5 for every scope and channel, (k, C)."""
        w = torch.softmax(control.view(self.per_group, -1), dim=1)
        return w.repeat_interleave(self.num_features // self.per_group, 0).T

    def moments(self, h: Tensor, scope: str) -> Moments:
        """mu_k and sigma2_k; in an evaluation the batch's are the running ones."""
        if scope != "batch":
            return scope_moments(h, scope, self.num_groups, self.unbiased)
        running = self.running_moments(h)
        if running is not None:
            return running
        self.check_values(h)
        mu, var = scope_moments(h, scope, self.num_groups, self.unbiased)
        if self.average == "moving":
            self.track(mu, var)
        return mu, var

    def standardize(self, h: Tensor) -> Tensor:
        self.check_input(h, self.num_features)
        w, w_prime = (self.ratios(control.to(h.dtype)) for control in (self.mean_weight, self.var_weight))
        mu_k, sigma2_k = zip(*(self.moments(h, scope) for scope in self.scopes), strict=True)
        mu, sigma2 = h.new_zeros(()), h.new_zeros(())
        for k in range(len(self.scopes)):
            mu = mu + per_channel(w[k], h) * mu_k[k]
            sigma2 = sigma2 + per_channel(w_prime[k], h) * sigma2_k[k]
        return standardize(h, mu, sigma2, self.eps)


class _SwitchableNorm(NormLayer, Switchable, Affine):
    """act(h_hat + residual), h_hat of eq. 3; in and out (N, C, *positions).

    State, the official names: weight = gamma and bias = beta (C,) if `affine`; the rest as in Switchable.
    `scopes` None: instance, layer and batch; layer and batch for SwitchableNorm1d.
    """

    default_scopes: tuple[str, ...] = ("instance", "layer", "batch")

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        scopes: Sequence[str] | None = None,
        average: str = "moving",
        unbiased: bool = False,
        per_group: int = 1,
        num_groups: int = 1,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        Switchable.__init__(
            self,
            num_features,
            eps,
            momentum,
            track_running_stats,
            scopes=self.default_scopes if scopes is None else scopes,
            average=average,
            unbiased=unbiased,
            per_group=per_group,
            num_groups=num_groups,
            device=device,
            dtype=dtype,
        )
        Affine.__init__(self, num_features, affine, device=device, dtype=dtype)
        self.act = check_act(act)


class SwitchableNorm1d(_SwitchableNorm):
    __doc__ = _SwitchableNorm.__doc__
    allowed_dims = (2, 3)
    default_scopes = ("layer", "batch")


class SwitchableNorm2d(_SwitchableNorm):
    __doc__ = _SwitchableNorm.__doc__
    allowed_dims = (4,)


class SwitchableNorm3d(_SwitchableNorm):
    __doc__ = _SwitchableNorm.__doc__
    allowed_dims = (5,)
