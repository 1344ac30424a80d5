"""The activations of docs/engine.md on a tile: value, gradient, and the bits that may stand in for z.

Written with `where`, not with minima and maxima, so that a NaN in z comes out as a NaN.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl

LEAKY_SLOPE = tl.constexpr(0.01)
SQRT_HALF = tl.constexpr(0.7071067811865476)
RSQRT_2PI = tl.constexpr(0.3989422804014327)


@triton.jit
def activate(z, ACT: tl.constexpr):
    """act(z)."""
    if ACT == "identity":
        return z
    elif ACT == "relu":
        return tl.where(z < 0, 0.0, z)
    elif ACT == "relu6":
        return tl.where(z < 0, 0.0, tl.where(z > 6, 6.0, z))
    elif ACT == "leaky_relu":
        return tl.where(z < 0, z * LEAKY_SLOPE, z)
    elif ACT == "silu":
        return z / (1 + tl.exp(-z))
    elif ACT == "hardswish":
        inner = z + 3
        return z * tl.where(inner < 0, 0.0, tl.where(inner > 6, 6.0, inner)) / 6
    else:
        tl.static_assert(ACT == "gelu", "unknown activation")
        return 0.5 * z * (1 + tl.erf(z * SQRT_HALF))


@triton.jit
def passes(z, ACT: tl.constexpr):
    """For a masked activation: where the gradient passes whole. NaN passes relu and relu6, as in PyTorch."""
    if ACT == "relu":
        return (z <= 0) == 0
    elif ACT == "relu6":
        return ((z <= 0) | (z >= 6)) == 0
    else:
        tl.static_assert(ACT == "leaky_relu", "no bit a value can stand in for z with this activation")
        return z > 0


@triton.jit
def masked_gradient(dy, bits, ACT: tl.constexpr):
    """dy * act'(z) from the bits of `passes`."""
    if ACT == "leaky_relu":
        return tl.where(bits, dy, dy * LEAKY_SLOPE)
    else:
        return tl.where(bits, dy, 0.0)


@triton.jit
def gradient(dy, z, ACT: tl.constexpr):
    """dy * act'(z)."""
    if ACT == "identity":
        return dy
    elif ACT == "silu":
        sigma = 1 / (1 + tl.exp(-z))
        return dy * sigma * (1 + z * (1 - sigma))
    elif ACT == "hardswish":  # the corners as in PyTorch: 0 at -3, 1 at 3
        return dy * tl.where(z <= -3, 0.0, tl.where(z >= 3, 1.0, z / 3 + 0.5))
    elif ACT == "gelu":
        cdf = 0.5 * (1 + tl.erf(z * SQRT_HALF))
        return dy * (cdf + z * (tl.exp(-0.5 * z * z) * RSQRT_2PI))
    else:
        return masked_gradient(dy, passes(z, ACT), ACT)
