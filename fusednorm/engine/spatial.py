"""Layers with statistics over channels at each position (RBN's Table 3): the steps between the kernels of
docs/positions.md, and the autograd around them.

    t = mean or std over channels of x, t' = t - its mean (centering);  u = mean or std over channels of x_hat (scaling)
    x_hat = scale*(x - center) + shift + outer*t';   y = act(gain*x_hat*R(gate_weight*u + gate_bias) + bias + residual)

Forward reads x for its moments, for t and its covariance with the planes (where it centres), for u (where it scales)
and writes y from it: 4 units for either scaling, 5 for either centering, 6 for both. Backward sums over positions (2
units), over channels (2 for each) and writes dx (3): 7, 9 for both. A residual adds its own reads, and the writing of
its gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusednorm.heads import Head
from fusednorm.heads.planes import position_statistic
from fusednorm.heads.spatial import Coefficients, centres, centring_row, coefficients, restrict_of, scales

from . import plain
from .backends import kernel
from .function import Spec, Tensors, family, vjp
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
    """y, mask (none), mean, var, t's moments, cov, u's moments, and the head's statistics."""
    head, S = spec.head, positions(x)
    assert isinstance(head, Head)
    if head.needs_moments:
        mean, var = kernel("plane_moments", spec.backend)(x)
    else:
        mean, var = plain.without_moments(x, head, tensors)
    center = mean.to(var.dtype)
    found = Found(mean, var, None, None, None)
    moments = kernel("position_moments", spec.backend)
    row = level = t_spread = u_mean = u_var = u = None
    with plain.full_precision(x):
        if centres(head):
            # of x as it is, not of (x - center) + center: where all channels are alike their deviation is exactly 0
            zero = torch.zeros_like(center)
            t_mean, t_var = moments(x, zero, torch.ones_like(center), zero, None, None)
            row, level, t_spread = centring_row(head, t_mean, t_var)
            cov, _ = kernel("plane_pool", spec.backend)(x, center, row / S, "sum")
            found = Found(mean, var, t_mean, t_var, cov)
        k, statistics = coefficients(head, center, mean, var, found.cov, level, t_spread, S, tensors)
        if scales(head):
            u_mean, u_var = moments(x, center, k.scale, k.shift, k.outer, row)
            u = position_statistic(u_mean, u_var, head.recalibrate.statistic)
    affine = kernel("position_affine", spec.backend)
    y = affine(x, center, *_affine_arguments(k, row, u), residual, restrict_of(head), spec.act)
    mask = x.new_empty((0,), dtype=torch.uint8)
    return y, mask, *(_kept(t, x) for t in (*found, u_mean, u_var)), *statistics


def _kept(t: Tensor | None, x: Tensor) -> Tensor:
    """Saved tensors can't be None among a Function's outputs."""
    return x.new_empty((0,), dtype=compute_dtype(x)) if t is None else t


def _affine_arguments(k: Coefficients, row: Tensor | None, u: Tensor | None) -> tuple[Tensor | None, ...]:
    return k.scale, k.shift, k.outer, row, k.gain, k.bias, k.gate_weight, k.gate_bias, u


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
    mean, var, t_mean, t_var, cov, u_mean, u_var = outputs
    way_back = _WayBack(spec, x, mean, var, t_mean, t_var, cov, u_mean, u_var, tensors)
    with plain.full_precision(x):
        return way_back(dy, residual, needs_dx, needs_dresidual, needs)


SPATIAL = family("SpatialNorm", spatial_forward, spatial_backward, 9)


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
        tensors: Tensors,
    ) -> None:
        self.spec, self.x, self.mean, self.var, self.tensors = spec, x, mean, var, tensors
        self.t, self.cov, self.u = (t_mean, t_var), cov, (u_mean, u_var)
        self.center, self.S = mean.to(var.dtype), positions(x)

    def __call__(
        self, dy: Tensor, residual: Tensor | None, needs_dx: bool, needs_dresidual: bool, needs: list[bool]
    ) -> tuple[Tensor | None, Tensor | None, Tensors]:
        spec, x, center, S, C = self.spec, self.x, self.center, self.S, self.x.shape[1]
        head, act = spec.head, spec.act
        assert isinstance(head, Head)
        row = level = spread = u = e_offset = e_slope = None
        if centres(head):
            (row, level, spread), centring_vjp = vjp(lambda m, v: centring_row(head, m, v), *self.t)
        moments = (self.mean, self.var)
        positional: tuple[Any, Any, Any] = (None, None, None) if row is None else (self.cov, level, spread)
        inner = moments if row is None else (*moments, *positional)
        wanted = [i for i, needed in enumerate(needs) if needed]

        def moving(m: Tensor, v: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
            c1, c2, c3 = rest[: len(inner) - 2] or positional
            moved = list(self.tensors)
            for i, t in zip(wanted, rest[len(inner) - 2 :], strict=True):
                moved[i] = t
            found, _ = coefficients(head, center, m, v, c1, c2, c3, S, tuple(moved))
            return tuple(t for t in found if t is not None)

        k, _ = coefficients(head, center, *moments, *positional, S, self.tensors)
        _, head_vjp = vjp(moving, *inner, *(self.tensors[i] for i in wanted))
        if scales(head):
            name = head.recalibrate.statistic
            u, statistic_vjp = vjp(lambda m, v: position_statistic(m, v, name), *self.u)
        common = _affine_arguments(k, row, u)

        def call(name: str, *more: Any) -> Any:
            return kernel(name, spec.backend)(dy, x, center, *common, residual, e_offset, e_slope, *more)

        # The first pass over dy writes g where it is dresidual, or where it spares reading the residual again.
        write, g = residual is not None or (needs_dresidual and act != "identity"), None
        restrict = restrict_of(head)
        if scales(head):
            # Not in 16 bits: the sums are better of g as it is than as it would be written.
            early = write and x.dtype.itemsize > 2
            written, du, _ = call("position_affine_spread", None, restrict, act, early)
            if early:
                g, dy, residual, act, write = written, written, None, "identity", False
            du_mean, du_var = statistic_vjp(du)
            e_slope = du_var * (2 / C)
            e_offset = du_mean / C - e_slope * self.u[0]
        written, sums = call("position_affine_reduce", restrict, act, write)
        if write:
            g, dy, residual, act, write = written, written, None, "identity", False
        dshift, dscale, douter, dgain, dbias, dgate_bias, dgate_weight = sums.unbind()
        cotangents = {
            "scale": dscale,
            "shift": dshift,
            "outer": douter,
            "gain": dgain,
            "bias": dbias,
            "gate_weight": dgate_weight,
            "gate_bias": dgate_bias,
        }
        present = tuple(cotangents[name] for name, t in zip(k._fields, k, strict=True) if t is not None)
        dm, dv, *rest = head_vjp(present)
        outers = rows = weight = h = None
        if row is not None:
            dcov, dlevel, dspread, *rest = rest
            pool = dcov / S
            _, _, drow = call("position_affine_spread", pool, restrict, act, False)
            dt_mean, dt_var = centring_vjp((drow, dlevel, dspread))
            # of position_moments: dt_mean/C + 2 dt_var/C (x - t_mean), around the sample's mean
            weight, h = torch.ones_like(center), dt_var / C
            middle = center.mean(1, keepdim=True)
            outers = torch.stack([center - middle, torch.ones_like(center), pool])
            rows = torch.stack([2 * h, dt_mean / C - 2 * h * (self.t[0] - middle), row])
        dtensors: list[Tensor | None] = [None] * len(self.tensors)
        for i, t in zip(wanted, rest, strict=True):
            dtensors[i] = t
        dresidual = None if not needs_dresidual else dy if g is None else g
        if not needs_dx:
            return None, dresidual, tuple(dtensors)
        a, b = (dv * (2 / S), (dm / S).to(center.dtype)) if head.needs_moments else (None, None)
        dx = call("position_affine_grad", a, b, outers, rows, weight, h, "square", restrict, act)
        return dx, dresidual, tuple(dtensors)
