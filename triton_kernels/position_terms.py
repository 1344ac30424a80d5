"""What the affine kernels of layers that know a value per position have in common (docs/positions.md):

    e = scale*(x - center) + shift + outer*t        q = R(gate_weight*u + gate_bias), 1 without u
    z = gain*e*q + bias + residual                  g = dy*act'(z)
    de = gain*g*q + e_offset + e_slope*e            da = gain*g*e*R'

N×C: center, scale, shift, outer, gain, bias, gate_weight, gate_bias. Per position: t, u, e_offset, e_slope.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from .activations import gradient
from .layout import PerPlane, per_plane


class Planes(NamedTuple):
    """Tensors; on the device also a tile's values. None where the layer has none."""

    center: PerPlane | None
    scale: PerPlane | None
    shift: PerPlane | None
    outer: PerPlane | None
    gain: PerPlane | None
    bias: PerPlane | None
    gate_weight: PerPlane | None
    gate_bias: PerPlane | None


class Rows(NamedTuple):
    """Tensors; on the device also a tile's values."""

    t: Tensor | None
    u: Tensor | None
    e_offset: Tensor | None
    e_slope: Tensor | None


class Terms(NamedTuple):
    """A tile's, on the device; `geq` is g*e*q, da 0 without a gate."""

    g: tl.tensor
    e: tl.tensor
    geq: tl.tensor
    de: tl.tensor
    da: tl.tensor


def planes(*tensors: Tensor | None) -> Planes:
    return Planes(*(per_plane(t) for t in tensors))


@triton.jit
def standardized(d, scale, shift, outer, t):
    """e of d = x - center."""
    e = tl.fma(scale, d, shift)
    if t is not None:
        e = tl.fma(outer, t, e)
    return e


@triton.jit
def restricted(a, RESTRICT: tl.constexpr):
    """R(a)."""
    if RESTRICT == "hsigmoid":
        inner = a + 3
        return tl.where(inner < 0, 0.0, tl.where(inner > 6, 6.0, inner)) / 6
    elif RESTRICT == "tanh":
        return 1 / (1 + tl.exp(-2 * a))  # (1 + tanh(a))/2
    else:
        tl.static_assert(RESTRICT == "sigmoid", "unknown restriction")
        return 1 / (1 + tl.exp(-a))


@triton.jit
def restricted_slope(a, q, RESTRICT: tl.constexpr):
    """R'(a), q = R(a). At hsigmoid's corners the gradient passes, as in PyTorch."""
    if RESTRICT == "hsigmoid":
        return tl.where((a >= -3) & (a <= 3), 1.0, tl.zeros_like(a)) / 6
    elif RESTRICT == "tanh":
        return 2 * q * (1 - q)
    else:
        return q * (1 - q)


@triton.jit
def preactivation(d, p, r, RESTRICT: tl.constexpr):
    """z without residual."""
    e = p.gain * standardized(d, p.scale, p.shift, p.outer, r.t)
    if r.u is not None:
        e *= restricted(tl.fma(p.gate_weight, r.u, p.gate_bias), RESTRICT)
    return e + p.bias


@triton.jit
def backward(dy, d, p, r, residual, RESTRICT: tl.constexpr, ACT: tl.constexpr):
    """Terms, from values of dy, x - center and the residual, or None."""
    e = standardized(d, p.scale, p.shift, p.outer, r.t)
    eq = e
    factor = p.gain
    if r.u is not None:
        a = tl.fma(p.gate_weight, r.u, p.gate_bias)
        q = restricted(a, RESTRICT)
        eq *= q
        factor *= q
    g = dy
    if ACT != "identity":
        z = tl.fma(p.gain, eq, p.bias)
        if residual is not None:
            z += residual
        g = gradient(dy, z, ACT)
    de = factor * g
    if r.e_offset is not None:
        de += tl.fma(r.e_slope, e, r.e_offset)
    da = 0.0
    if r.u is not None:
        da = p.gain * g * e * restricted_slope(a, q, RESTRICT)
    return Terms(g, e, g * eq, de, da)
