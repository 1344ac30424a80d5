"""The `torch` backend's position kernels: sums over channels at each position, weighted sums over a plane's positions,
and the affine pass of layers that know a value per position. The contract is in docs/positions.md.

Shapes: x, dy, residual (N, C, *positions); N×C arguments (N, C); per position (N, S), S positions in row-major order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fusednorm.heads.planes import restricted

from .activations import activate, activate_inplace, gradient
from .layout import compute_dtype, per_plane, positions

# f(d) and f'(d) of position_reduce and plane_pool.
KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sum": (lambda d: d, torch.ones_like),
    "abs": (torch.abs, torch.sign),
    "square": (torch.square, lambda d: 2 * d),
}


def position_reduce(x: Tensor, center: Tensor, weight: Tensor, kind: str) -> Tensor:
    """t[n,s] = sum_c weight[n,c] f(x - center)."""
    return _over_channels(per_plane(weight, x) * KINDS[kind][0](_centred(x, center)))


def plane_pool(x: Tensor, center: Tensor, q: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """pooled[n,c] = sum_s q[n,s] f(x - center), and slope[n,c] = sum_s q[n,s] f'(x - center), empty for "sum"."""
    d, weight = _centred(x, center), _per_position(q, x)
    pooled = _over_positions(weight * KINDS[kind][0](d))
    return pooled, d.new_empty((0,)) if kind == "sum" else _over_positions(weight * KINDS[kind][1](d))


def position_moments(
    x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, outer: Tensor | None, t: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over channels of e = scale*(x - center) + shift + outer*t, at each position."""
    e = _standardized(x, center, scale, shift, outer, t).reshape(*x.shape[:2], positions(x))
    if x.numel() == 0:  # var_mean would warn, and give NaN
        return e.new_zeros((e.shape[0], e.shape[2])), e.new_zeros((e.shape[0], e.shape[2]))
    var, mean = torch.var_mean(e, dim=1, correction=0)
    return mean, var


def position_affine(
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    restrict: str,
    act: str,
) -> Tensor:
    """act(gain*e*q + bias + residual); e = scale*(x - center) + shift + outer*t, q = R(gate_weight*u + gate_bias)."""
    e = _standardized(x, center, scale, shift, outer, t)
    z = per_plane(gain, x) * e * _gate(x, gate_weight, gate_bias, u, restrict) + per_plane(bias, x)
    z = z if residual is None else z + residual.to(z.dtype)
    return torch.empty_like(x).copy_(activate(z, act))


def position_affine_inplace(
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    restrict: str,
    act: str,
) -> None:
    """y over x."""
    e = _standardized(x, center, scale, shift, outer, t)
    z = e.mul_(per_plane(gain, x)).mul_(_gate(x, gate_weight, gate_bias, u, restrict)).add_(per_plane(bias, x))
    if residual is not None:
        z.add_(residual)
    activate_inplace(z, act)
    x.copy_(z)


def position_affine_reduce(
    dy: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    e_offset: Tensor | None,
    e_slope: Tensor | None,
    restrict: str,
    act: str,
    write_g: bool,
) -> tuple[Tensor, Tensor]:
    """g, where asked for, and the sums over positions (7, N, C) of de, de*(x - center), de*t, g*e*q, g, da, da*u."""
    k = _Backward(dy, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u, residual, restrict, act)
    de = k.de(e_offset, e_slope)
    zero = torch.zeros_like(de)
    terms = [
        de,
        de * _centred(x, center),
        zero if t is None else de * _per_position(t, x),
        k.g * k.e * k.q,
        k.g,
        k.da,
        zero if u is None else k.da * _per_position(u, x),
    ]
    g = torch.empty_like(x).copy_(k.g) if write_g else x.new_empty((0,))
    return g, torch.stack([_over_positions(term) for term in terms])


def position_affine_spread(
    dy: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    e_offset: Tensor | None,
    e_slope: Tensor | None,
    pool: Tensor | None,
    restrict: str,
    act: str,
    write_g: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """g, where asked for, and the sums over channels (N, S): du of gate_weight*da (empty without u), dt of
    outer*de + pool*(x - center) (empty without t)."""
    k = _Backward(dy, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u, residual, restrict, act)
    g = torch.empty_like(x).copy_(k.g) if write_g else x.new_empty((0,))
    du = dt = k.g.new_empty((0,))
    if gate_weight is not None:
        du = _over_channels(per_plane(gate_weight, x) * k.da)
    if outer is not None:
        terms = per_plane(outer, x) * k.de(e_offset, e_slope)
        dt = _over_channels(terms if pool is None else terms + per_plane(pool, x) * _centred(x, center))
    return g, du, dt


def position_affine_grad(
    dy: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    outer: Tensor | None,
    t: Tensor | None,
    gain: Tensor,
    bias: Tensor,
    gate_weight: Tensor | None,
    gate_bias: Tensor | None,
    u: Tensor | None,
    residual: Tensor | None,
    e_offset: Tensor | None,
    e_slope: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    outers: Tensor | None,
    rows: Tensor | None,
    weight: Tensor | None,
    h: Tensor | None,
    kind: str,
    restrict: str,
    act: str,
) -> Tensor:
    """dx = scale*de + a*(x - center) + b + sum_j outers[j]*rows[j] + weight*h*f'(x - center).

    outers (J, N, C) and rows (J, N, S), J at most 3.
    """
    k = _Backward(dy, x, center, scale, shift, outer, t, gain, bias, gate_weight, gate_bias, u, residual, restrict, act)
    d = _centred(x, center)
    dx = per_plane(scale, x) * k.de(e_offset, e_slope)
    if a is not None and b is not None:
        dx = dx + per_plane(a, x) * d + per_plane(b, x)
    if outers is not None and rows is not None:
        for column, row in zip(outers, rows, strict=True):
            dx = dx + per_plane(column, x) * _per_position(row, x)
    if weight is not None and h is not None:
        dx = dx + per_plane(weight, x) * _per_position(h, x) * KINDS[kind][1](d)
    return torch.empty_like(x).copy_(dx)


class _Backward:
    """What the three backward kernels calculate anew: e, q, g = dy*act'(z), h = gain*g*q and da = g*gain*e*R'."""

    def __init__(
        self,
        dy: Tensor,
        x: Tensor,
        center: Tensor,
        scale: Tensor,
        shift: Tensor,
        outer: Tensor | None,
        t: Tensor | None,
        gain: Tensor,
        bias: Tensor,
        gate_weight: Tensor | None,
        gate_bias: Tensor | None,
        u: Tensor | None,
        residual: Tensor | None,
        restrict: str,
        act: str,
    ) -> None:
        self.x = x
        self.e = _standardized(x, center, scale, shift, outer, t)
        self.q = _gate(x, gate_weight, gate_bias, u, restrict)
        gain = per_plane(gain, x)
        z = gain * self.e * self.q + per_plane(bias, x)
        self.g = gradient(dy.to(z.dtype), z if residual is None else z + residual.to(z.dtype), act)
        self.h = gain * self.g * self.q
        self.da = self.g * gain * self.e * _gate_slope(x, gate_weight, gate_bias, u, restrict)

    def de(self, offset: Tensor | None, slope: Tensor | None) -> Tensor:
        """h + offset + slope*e."""
        if offset is None or slope is None:
            return self.h
        return self.h + _per_position(offset, self.x) + _per_position(slope, self.x) * self.e


def _centred(x: Tensor, center: Tensor) -> Tensor:
    return x.to(compute_dtype(x)) - per_plane(center, x)


def _per_position(t: Tensor, x: Tensor) -> Tensor:
    """A tensor (N, S) as one that broadcasts over x."""
    return t.reshape(x.shape[0], 1, *x.shape[2:])


def _over_channels(terms: Tensor) -> Tensor:
    return terms.sum(1).reshape(terms.shape[0], positions(terms))


def _over_positions(terms: Tensor) -> Tensor:
    return terms.reshape(*terms.shape[:2], positions(terms)).sum(-1)


def _standardized(
    x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, outer: Tensor | None, t: Tensor | None
) -> Tensor:
    e = per_plane(scale, x) * _centred(x, center) + per_plane(shift, x)
    return e if outer is None or t is None else e + per_plane(outer, x) * _per_position(t, x)


def _gate(x: Tensor, weight: Tensor | None, bias: Tensor | None, u: Tensor | None, restrict: str) -> Tensor:
    if weight is None or bias is None or u is None:
        return torch.ones((), dtype=compute_dtype(x), device=x.device)
    return restricted(per_plane(weight, x) * _per_position(u, x) + per_plane(bias, x), restrict)


def _gate_slope(x: Tensor, weight: Tensor | None, bias: Tensor | None, u: Tensor | None, restrict: str) -> Tensor:
    """R'; at hsigmoid's corners the gradient passes, as torch.clamp's does."""
    if weight is None or bias is None or u is None:
        return torch.zeros((), dtype=compute_dtype(x), device=x.device)
    a = per_plane(weight, x) * _per_position(u, x) + per_plane(bias, x)
    if restrict == "hsigmoid":
        return ((a >= -3) & (a <= 3)).to(a.dtype) / 6
    q = restricted(a, restrict)
    return q * (1 - q) * (2 if restrict == "tanh" else 1)
