"""Switchable Normalization (Luo, Ren, Peng, Zhang & Li, 2019): learned ratios of instance, layer and batch
statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fusednorm import checks, parts
from fusednorm.heads import SCOPES
from fusednorm.parts import Part

from .affine import Affine
from .batch_norm import RunningStatistics
from .layer import NormLayer, new_parameter

AVERAGES = ("moving", "batch")
DEFAULT_SCOPES = ("instance", "layer", "batch")

# The softmax of 0 beside this is exactly 1, in every floating-point type that holds it.
UNCHOSEN = -1e4


class Switchable(RunningStatistics):
    """x_hat = (x - sum_k w_k mu_k)/sqrt(sum_k w'_k var_k + eps) (SN eqs. 3-5); SwitchableNorm2d has the arguments.

    There are running statistics only where "batch" is among the scopes.
    """

    mean_weight: nn.Parameter
    var_weight: nn.Parameter

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        *,
        scopes: Sequence[str] = DEFAULT_SCOPES,
        average: str = "moving",
        unbiased: bool = False,
        per_group: int = 1,
        num_groups: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._build_switchable(
            num_features,
            eps,
            momentum,
            track_running_stats,
            scopes,
            average,
            unbiased,
            per_group,
            num_groups,
            device,
            dtype,
        )
        self.reset_parameters()

    def _build_switchable(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        track_running_stats: bool,
        scopes: Sequence[str],
        average: str,
        unbiased: bool,
        per_group: int,
        num_groups: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        scopes = checks.check_scopes(scopes, SCOPES)
        checks.check_choice("average", average, AVERAGES)
        checks.check_count("num_features", num_features)
        checks.check_groups(per_group, num_features, "per_group")
        checks.check_groups(num_groups, num_features)
        self._build_statistics(num_features, eps, momentum, track_running_stats and "batch" in scopes, device, dtype)
        self.scopes, self.average, self.unbiased = scopes, average, unbiased
        self.per_group, self.num_groups = per_group, num_groups
        size = (len(scopes),) if per_group == 1 else (per_group, len(scopes))
        self.mean_weight = new_parameter(size, device, dtype)
        self.var_weight = new_parameter(size, device, dtype)

    def reset_parameters(self) -> None:
        """All ratios alike, running statistics as at the start."""
        self.reset_running_stats()
        for weight in (self.mean_weight, self.var_weight):
            nn.init.ones_(weight)
            weight.requires_grad_()

    def standardization(self, x: Tensor) -> Part:
        tracks = self.average == "moving"
        part = parts.switchable(
            x,
            self.mean_weight,
            self.var_weight,
            self.running_mean,
            self.running_var,
            self.collects,
            self.factor(),
            self.eps,
            self.scopes,
            self.num_groups,
            self.unbiased,
            self.counter(),
        )
        return part if tracks else Part(part.head, part.tensors)

    def importance(self) -> dict[str, dict[str, Tensor]]:
        """The ratios by name: {"mean": {scope: w_k}, "var": {scope: w'_k}}, scalars or, with per_group, (per_group)."""
        weights = {"mean": self.mean_weight, "var": self.var_weight}
        return {
            name: dict(zip(self.scopes, torch.softmax(weight.detach(), -1).unbind(-1), strict=True))
            for name, weight in weights.items()
        }

    @torch.no_grad()
    def sparsify(self) -> None:
        """From now on only the scope of the largest ratio, for means and variances (and groups) each: sparse SN.

        The control parameters become a choice, 0 for the chosen scope and -1e4 for the others, and want no gradient
        any more, and have none: optimizers leave them alone. The rest can be fine-tuned. `reset_parameters` undoes it;
        then make the optimizer anew, for its state of them is from before.
        """
        for weight in (self.mean_weight, self.var_weight):
            chosen = weight.argmax(-1, keepdim=True)
            weight.fill_(UNCHOSEN).scatter_(-1, chosen, 0.0)
            weight.requires_grad_(False)
            weight.grad = None

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, scopes={self.scopes}, average={self.average}, unbiased={self.unbiased}"
        text += f", per_group={self.per_group}" if self.per_group > 1 else ""
        return text + (f", num_groups={self.num_groups}" if "group" in self.scopes else "")


class _SwitchableNorm(NormLayer, Switchable, Affine):
    halves = (Switchable, Affine)
    default_scopes: Sequence[str] = DEFAULT_SCOPES

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
        inplace: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._build(
            act,
            inplace,
            lambda: self._build_switchable(
                num_features,
                eps,
                momentum,
                track_running_stats,
                self.default_scopes if scopes is None else scopes,
                average,
                unbiased,
                per_group,
                num_groups,
                device,
                dtype,
            ),
            lambda: self._build_affine(num_features, affine, device, dtype),
        )
        self.reset_parameters()


_DOC = """Switchable Normalization, {shape} input.

    x_hat = (x - sum_k w_k mu_k)/sqrt(sum_k w'_k var_k + eps);  w = softmax(mean_weight), w' = softmax(var_weight)
    y = act(weight*x_hat + bias + residual)                                                             SN eqs. 3-5

    over the scopes k: mu_k and var_k are those of a plane ("instance"), a sample ("layer"), a channel over the batch
    ("batch") or a sample's groups of channels ("group"). In evaluation the scope "batch" takes running statistics;
    all others are as in training.

    Paper and official code differ. The paper's variances are biased; with `unbiased` they are the official code's: the
    plane's has the divisor S - 1, and the others are built of it, var_k = mean(var_in + mu_in**2) - mu_k**2, so that
    they are neither biased nor unbiased; planes of one position are then as in its 1-D layer, the variances over C
    or N values unbiased. `momentum` is torch's, 1 - theirs. running_var takes var_batch as it is used, without N/(N-1).
    Running statistics start as 0 and 1 (theirs as 0 and 0).

    Args:
        num_features: C, channels of the input.
        eps: added to the mixed variance, under the root.
        momentum: weight of a batch in the running statistics; None for their cumulative average.
        affine: whether there are weight and bias.
        track_running_stats: without, evaluation uses the batch's statistics.
        scopes: any of "instance", "layer", "batch", "group", each once, in the order of the control parameters.{scopes}
            Without "batch" nothing is tracked, and one sample a device will do.
        average: "moving", in training; or "batch": training leaves the running statistics alone and
            fusednorm.average_statistics takes them, as the paper's section on inference says. Until it has
            (num_batches_tracked is 0) evaluation takes the scope "batch" as mean 0, variance 1, without a warning.
        unbiased: see above.
        per_group: groups of channels with ratios of their own (group SN). Layer statistics still span all channels.
        num_groups: groups of channels of the scope "group".
        act: "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "hardswish", "gelu" (erf) or None.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).
        device, dtype: of the parameters; buffers of 16-bit layers are float32.

    Parameters and buffers: weight, bias (C); mean_weight, var_weight (k) or (per_group, k), all 1 at the start;
    running_mean, running_var (C), num_batches_tracked.

    Raises:
        ValueError: wrong dimensions or channels, unknown or repeated scopes, one value per channel in training with
            "batch", a residual unlike x, an unknown option.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """


class SwitchableNorm1d(_SwitchableNorm):
    __doc__ = _DOC.format(
        shape="(N, C) or (N, C, L)",
        scopes=""" The default is
            ("layer", "batch"), for planes of (N, C) input have no spread; recurrent cells take ("layer", "group").""",
    )
    dims = (2, 3)
    default_scopes = ("layer", "batch")


class SwitchableNorm2d(_SwitchableNorm):
    __doc__ = _DOC.format(shape="(N, C, H, W)", scopes="")
    dims = (4,)


class SwitchableNorm3d(_SwitchableNorm):
    __doc__ = _DOC.format(shape="(N, C, D, H, W)", scopes="")
    dims = (5,)
