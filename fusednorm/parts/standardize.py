"""Standardizations, checked. All take x (N, C, *positions) first; running tensors are (C).

group: of the processes whose samples batch statistics are taken over, None for those here.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusednorm import checks
from fusednorm.engine import Peers
from fusednorm.heads import SCOPES, Batch, FilterResponse, Group, Identity, Representative, Running, Switchable
from fusednorm.heads.planes import STATISTICS

from .part import Factor, Part


def batch(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: Factor,
    eps: float,
    counter: Tensor | None = None,
    group: Peers | None = None,
) -> Part:
    """Batch statistics in training and where there are no running ones, else those."""
    checks.check_eps("eps", eps)
    checks.check_running("", running_mean, running_var, x, (x.shape[1],))
    if training or running_mean is None or running_var is None:
        _check_values(x, group)
        return _tracked(Part(Batch(eps), group=group), running_mean, running_var, training, momentum, counter)
    return Part(Running(eps), (running_mean, running_var))


def group(x: Tensor, num_groups: int, eps: float) -> Part:
    checks.check_groups(num_groups, x.shape[1])
    checks.check_eps("eps", eps)
    return Part(Group(num_groups, eps))


def identity() -> Part:
    return Part(Identity())


def filter_response(eps: float) -> Part:
    checks.check_eps("eps", eps)
    return Part(FilterResponse(eps))


def switchable(
    x: Tensor,
    mean_weight: Tensor,
    var_weight: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: Factor,
    eps: float,
    scopes: Sequence[str],
    num_groups: int = 1,
    unbiased: bool = False,
    counter: Tensor | None = None,
    group: Peers | None = None,
) -> Part:
    """mean_weight and var_weight (k), or (groups of ratios, k)."""
    checks.check_eps("eps", eps)
    scopes = checks.check_scopes(scopes, SCOPES)
    checks.check_ratios("mean_weight", mean_weight, x, len(scopes))
    checks.check_ratios("var_weight", var_weight, x, len(scopes))
    if "group" in scopes:
        checks.check_groups(num_groups, x.shape[1])
    checks.check_running("", running_mean, running_var, x, (x.shape[1],))
    weights = (mean_weight, var_weight)
    if "batch" not in scopes:
        return Part(Switchable(scopes, num_groups, unbiased, False, eps), weights)
    if training or running_mean is None or running_var is None:
        _check_values(x, group)
        part = Part(Switchable(scopes, num_groups, unbiased, False, eps), weights, group=group)
        return _tracked(part, running_mean, running_var, training, momentum, counter)
    return Part(Switchable(scopes, num_groups, unbiased, True, eps), (*weights, running_mean, running_var))


def representative(
    x: Tensor,
    center: str | None,
    center_weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: Factor,
    eps: float,
    counter: Tensor | None = None,
    group: Peers | None = None,
) -> Part:
    """Statistics of x + center_weight K_m; without a center those of x."""
    if center is None:
        return batch(x, running_mean, running_var, training, momentum, eps, counter, group)
    checks.check_eps("eps", eps)
    checks.check_choice("center", center, STATISTICS)
    checks.check_parameter("center_weight", center_weight, x, (x.shape[1],), required=True)
    checks.check_running("", running_mean, running_var, x, (x.shape[1],))
    if training or running_mean is None or running_var is None:
        _check_values(x, group)
        part = Part(Representative(center, False, eps), (center_weight,), group=group)
        return _tracked(part, running_mean, running_var, training, momentum, counter)
    return Part(Representative(center, True, eps), (center_weight, running_mean, running_var))


def _tracked(
    part: Part,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: Factor,
    counter: Tensor | None,
) -> Part:
    if not training:
        return part
    return part._replace(running=(running_mean, running_var), momentum=momentum, counter=counter)


def _check_values(x: Tensor, group: Peers | None) -> None:
    """Of a single process; how many values others have is not known beforehand."""
    if group is None:
        checks.check_batch_values(x)
