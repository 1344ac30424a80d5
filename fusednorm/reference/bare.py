"""Recalibrations on a bare map, x_hat = x: act(y + residual); in and out (N, C, *positions). State: the part's."""

import torch

from . import gates, normalization_attention
from .activation import check_act
from .global_response import GlobalResponse
from .options import Restrict
from .parts import Identity, NormLayer


class SqueezeExcite(NormLayer, Identity, gates.SqueezeExcite):
    __doc__ = gates.SqueezeExcite.__doc__

    def __init__(
        self,
        num_channels: int,
        reduction: int = 16,
        *,
        bias: bool = True,
        gate: Restrict = "sigmoid",
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        gates.SqueezeExcite.__init__(
            self, num_channels, reduction, affine=False, bias=bias, gate=gate, device=device, dtype=dtype
        )
        self.act = check_act(act)


class EfficientChannelAttention(NormLayer, Identity, gates.EfficientChannelAttention):
    __doc__ = gates.EfficientChannelAttention.__doc__

    def __init__(
        self,
        num_channels: int,
        kernel_size: int | None = None,
        *,
        gate: Restrict = "sigmoid",
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        gates.EfficientChannelAttention.__init__(
            self, num_channels, kernel_size, affine=False, gate=gate, device=device, dtype=dtype
        )
        self.act = check_act(act)


class StyleRecalibration(NormLayer, Identity, gates.StyleRecalibration):
    __doc__ = gates.StyleRecalibration.__doc__

    def __init__(
        self,
        num_channels: int,
        *,
        eps: float = 1e-5,
        track_running_stats: bool = True,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        gates.StyleRecalibration.__init__(
            self,
            num_channels,
            affine=False,
            eps=eps,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.act = check_act(act)


class GatherExcite(NormLayer, Identity, gates.GatherExcite):
    __doc__ = gates.GatherExcite.__doc__

    def __init__(
        self,
        num_channels: int,
        *,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        gates.GatherExcite.__init__(self, num_channels, affine=False, device=device, dtype=dtype)
        self.act = check_act(act)


class NormalizationAttention(NormLayer, Identity, normalization_attention.NormalizationAttention):
    __doc__ = normalization_attention.NormalizationAttention.__doc__

    def __init__(
        self,
        *,
        similarity: str | None = "l1",
        embedding: bool = False,
        unbiased: bool = False,
        eps: float = 1e-5,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        normalization_attention.NormalizationAttention.__init__(
            self,
            None,
            affine=False,
            similarity=similarity,
            embedding=embedding,
            unbiased=unbiased,
            eps=eps,
            device=device,
            dtype=dtype,
        )
        self.act = check_act(act)


class GlobalResponseNorm(NormLayer, Identity, GlobalResponse):
    __doc__ = GlobalResponse.__doc__

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        *,
        act: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        GlobalResponse.__init__(self, num_channels, eps, device=device, dtype=dtype)
        self.act = check_act(act)
