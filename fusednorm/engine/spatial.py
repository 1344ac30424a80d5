"""Layers with statistics over channels at each position (RBN's Table 3): the steps between the kernels of
docs/positions.md, and the autograd around them.

    t = mean or std over channels of x, t' = t - its mean (centering);  u = mean or std over channels of x_hat (scaling)
    x_hat = scale*(x - center) + shift + outer*t';   y = act(gain*x_hat*R(gate_weight*u + gate_bias) + bias + residual)

Forward reads x for its moments, for t and its covariance with the planes (where it centres), for u (where it scales)
and writes y from it: 4 units for either scaling, 5 for either centering, 6 for both. Backward sums over positions (2
units), over channels (2 for each) and writes dx (3): 7, 9 for both. A residual adds its own reads, and the writing of
its gradient. Where two of these are one (joint.py) it is fewer: where a GPU keeps a sample on the chip 3, 4 and 4
forward, and backward 5 for scaling, 7 for both; on `cpu` backward likewise, forward 4, 4 and 5. There RBN's own layers
are one operator a direction (whole_spatial.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusednorm.heads import Head
from fusednorm.heads.planes import position_statistic, position_statistic_slopes
from fusednorm.heads.samples import Pools
from fusednorm.heads.spatial import (
    Coefficients,
    centres,
    centring_gradient,
    centring_row,
    coefficients,
    is_there,
    restrict_of,
    scales,
)

from . import plain, whole_spatial
from .backends import kernel
from .calculation import calculate, vjp_of
from .function import Spec, Tensors, family
from .joint import moments_affine, moments_affine_inplace, moments_pool, spread_reduce
from .layout import compute_dtype, positions


class Found(NamedTuple):
    """What forward found out over x; absent parts are None."""

    mean: Tensor
    var: Tensor
    t_mean: Tensor | None  # moments over channels of x at each position, (N, S)
    t_var: Tensor | None
    cov: Tensor | None  # of t with each plane, (N, C)


def spatial_forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool
) -> tuple[Tensor | None, ...]:
    """y, mask (none), mean, var, t's moments, cov, u's moments, what was exchanged, and the head's statistics."""
    if whole_spatial.covers(spec):
        return whole_spatial.forward(spec, x, residual, tensors)
    found, affine, exchanged, statistics = _up_to_affine(spec, x, tensors)
    head, u_mean, u_var = spec.head, None, None
    assert isinstance(head, Head)
    restrict = str(restrict_of(head))
    with plain.full_precision(x):
        if scales(head):
            statistic = head.recalibrate.statistic
            y, u_mean, u_var = moments_affine(spec.backend, x, affine, residual, statistic, restrict, spec.act)
        else:
            y = kernel("position_affine", spec.backend)(x, *affine, None, residual, restrict, spec.act)
    mask = x.new_empty((0,), dtype=torch.uint8)
    return y, mask, *(_kept(t, x) for t in (*found, u_mean, u_var)), *exchanged, *statistics


def spatial_inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensors:
    if whole_spatial.covers(spec):
        return whole_spatial.inplace(spec, x, residual, tensors)
    _, affine, _, statistics = _up_to_affine(spec, x, tensors)
    head = spec.head
    assert isinstance(head, Head)
    restrict = str(restrict_of(head))
    with plain.full_precision(x):
        if scales(head):
            statistic = head.recalibrate.statistic
            moments_affine_inplace(spec.backend, x, affine, residual, statistic, restrict, spec.act)
        else:
            kernel("position_affine_inplace", spec.backend)(x, *affine, None, residual, restrict, spec.act)
    return statistics


def _up_to_affine(
    spec: Spec, x: Tensor, tensors: Tensors
) -> tuple[Found, tuple[Tensor | None, ...], tuple[Tensor, ...], tuple[Tensor | None, ...]]:
    """What forward finds out over x, position_affine's arguments from center to gate_bias, what was exchanged, the
    head's statistics."""
    head, S = spec.head, positions(x)
    assert isinstance(head, Head)
    if head.needs_moments:
        mean, var = kernel("plane_moments", spec.backend)(x)
    else:
        mean, var = plain.without_moments(x, head, tensors)
    center = mean.to(var.dtype)
    found = Found(mean, var, None, None, None)
    row = level = t_spread = None
    with plain.full_precision(x):
        if centres(head):
            t_mean, t_var, cov = moments_pool(spec.backend, x, center, head.standardize.center)
            found = Found(mean, var, t_mean, t_var, cov)
            row, level, t_spread = centring_row(head, t_mean, t_var)
        inputs = (center, mean, var, found.cov, level, t_spread, S, tensors)
        (k, statistics), exchanged = calculate(spec, x, lambda pools: coefficients(head, *inputs, pools))
    return found, (center, *_affine_arguments(k, row)), exchanged, statistics


def _kept(t: Tensor | None, x: Tensor) -> Tensor:
    """Saved tensors can't be None among a Function's outputs."""
    return x.new_empty((0,), dtype=compute_dtype(x)) if t is None else t


def _affine_arguments(k: Coefficients, row: Tensor | None) -> tuple[Tensor | None, ...]:
    return k.scale, k.shift, k.outer, row, k.gain, k.bias, k.gate_weight, k.gate_bias


def spatial_backward(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    outputs: list[Tensor],
    tensors: Tensors,
    needs_dx: bool,
    needs_dresidual: bool,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    if whole_spatial.covers_backward(spec, needs):
        return whole_spatial.backward(spec, dy, x, residual, outputs, tensors, needs_dx, needs_dresidual, needs)
    mean, var, t_mean, t_var, cov, u_mean, u_var, *exchanged = outputs
    way_back = _WayBack(spec, x, mean, var, t_mean, t_var, cov, u_mean, u_var, exchanged, tensors)
    with plain.full_precision(x):
        return way_back(dy, residual, needs_dx, needs_dresidual, needs)


SPATIAL = family("SpatialNorm", spatial_forward, spatial_inplace, spatial_backward, 9)


class _WayBack:
    def __init__(
        self,
        spec: Spec,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        t_mean: Tensor,
        t_var: Tensor,
        cov: Tensor,
        u_mean: Tensor,
        u_var: Tensor,
        exchanged: list[Tensor],
        tensors: Tensors,
    ) -> None:
        self.spec, self.x, self.mean, self.var, self.tensors = spec, x, mean, var, tensors
        self.t, self.cov, self.u, self.exchanged = (t_mean, t_var), cov, (u_mean, u_var), exchanged
        self.center, self.S = mean.to(var.dtype), positions(x)

    def __call__(
        self, dy: Tensor, residual: Tensor | None, needs_dx: bool, needs_dresidual: bool, needs: list[bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensors]:
        spec, x, center, S, C = self.spec, self.x, self.center, self.S, self.x.shape[1]
        head, act = spec.head, spec.act
        assert isinstance(head, Head)
        row = level = spread = u = e_offset = e_slope = None
        if centres(head):
            row, level, spread = centring_row(head, *self.t)
        moments = (self.mean, self.var)
        positional: tuple[Any, Any, Any] = (None, None, None) if row is None else (self.cov, level, spread)
        inner = moments if row is None else (*moments, *positional)
        wanted = [i for i, needed in enumerate(needs) if needed]

        def moving(pools: Pools, m: Tensor, v: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            c1, c2, c3 = rest[: len(inner) - 2] or positional
            moved = list(self.tensors)
            for i, t in zip(wanted, rest[len(inner) - 2 :], strict=True):
                moved[i] = t
            found, _ = coefficients(head, center, m, v, c1, c2, c3, S, tuple(moved), pools)
            return tuple(t for t in found if t is not None)

        given = (*inner, *(self.tensors[i] for i in wanted))
        found, head_vjp = vjp_of(spec, self.exchanged, moving, *given)
        names = [name for name in Coefficients._fields if is_there(name, head)]
        there = dict(zip(names, found, strict=True))
        k = Coefficients._make(there.get(name) for name in Coefficients._fields)
        if scales(head):
            u = position_statistic(*self.u, head.recalibrate.statistic)
        common = (*_affine_arguments(k, row), u)

        def call(name: str, *more: Any) -> Any:
            return kernel(name, spec.backend)(dy, x, center, *common, residual, e_offset, e_slope, *more)

        # The first pass over dy writes g where it is dresidual, or where it spares reading the residual again.
        write, restrict = residual is not None or (needs_dresidual and act != "identity"), str(restrict_of(head))
        if scales(head):
            offset, slope = position_statistic_slopes(*self.u, head.recalibrate.statistic, C)
            slope = torch.zeros_like(offset) if slope is None else slope
            g, du, sums = spread_reduce(
                spec.backend, dy, x, (center, *common), residual, offset, slope, restrict, act, write
            )
            e_offset, e_slope = du * offset, du * slope
        else:
            g, sums = call("position_affine_reduce", restrict, act, write)
        dresidual = None if not needs_dresidual else g if write else dy
        if write:
            dy, residual, act = g, None, "identity"
        dshift, dscale, douter, dgain, dbias, dgate_bias, dgate_weight = sums.unbind()
        cotangents = Coefficients(dscale, dshift, douter, dgain, dbias, dgate_weight, dgate_bias)
        dm, dv, *rest = head_vjp(tuple(getattr(cotangents, name) for name in names))
        outers = rows = weight = h = None
        if row is not None:
            dcov, dlevel, dspread, *rest = rest
            pool = dcov / S
            _, _, drow = call("position_affine_spread", pool, restrict, act, False)
            dt = centring_gradient(row, drow, dlevel, dspread)
            # of t: dt (offset + slope (x - middle)), around the sample's mean
            ones, middle = torch.ones_like(center), center.mean(1, keepdim=True)
            offset, slope = position_statistic_slopes(self.t[0] - middle, self.t[1], head.standardize.center, C)
            if slope is None:
                outers, rows = torch.stack([ones, pool]), torch.stack([dt * offset, row])
            else:
                weight, h = ones, dt * slope / 2
                outers, rows = torch.stack([center - middle, ones, pool]), torch.stack([2 * h, dt * offset, row])
        dtensors: list[Tensor | None] = [None] * len(self.tensors)
        for i, t in zip(wanted, rest, strict=True):
            dtensors[i] = t
        if not needs_dx:
            return None, dresidual, tuple(dtensors)
        a, b = (dv * (2 / S), (dm / S).to(center.dtype)) if head.needs_moments else (None, None)
        dx = call("position_affine_grad", a, b, outers, rows, weight, h, "square", restrict, act)
        return dx, dresidual, tuple(dtensors)
