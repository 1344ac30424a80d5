"""What programs found of the same planes (or positions), merged in fixed order: partials are (splits, width), width
planes (or positions, or several sums of either), of which `sizes.planes` is the number here."""

# mypy: allow-untyped-defs, allow-incomplete-defs

import triton
import triton.language as tl


@triton.jit
def merge_moments(count, mean, m2, total, AXIS: tl.constexpr):
    """Mean and M2 of everything along AXIS, from parts of `count` values each."""
    centre = tl.sum(count * mean, AXIS, keep_dims=True) / total
    off = mean - centre
    return centre, tl.sum(m2 + count * off * off, AXIS, keep_dims=True)


@triton.jit
def partials_tile(sizes, SPLITS: tl.constexpr, PLANES: tl.constexpr):
    """The program's splits, planes, which of these are real, and which partials are."""
    split = tl.arange(0, SPLITS)[:, None]
    plane = (tl.program_id(0) * PLANES + tl.arange(0, PLANES))[None, :]
    real = plane < sizes.planes
    return split, plane, real, (split < sizes.splits) & real


@triton.jit
def merge_moments_kernel(means, m2s, mean, var, extent, sizes, SPLITS: tl.constexpr, PLANES: tl.constexpr):
    """Mean and variance of `extent` values. `mean` comes with what the means are kept less."""
    COMPUTE: tl.constexpr = var.dtype.element_ty
    split, plane, real, valid = partials_tile(sizes, SPLITS, PLANES)
    m = tl.load(means + split * sizes.planes + plane, mask=valid, other=0.0)
    m2 = tl.load(m2s + split * sizes.planes + plane, mask=valid, other=0.0)
    count = tl.where(split < sizes.splits, tl.minimum(extent - split * sizes.chunk, sizes.chunk), 0).to(COMPUTE)
    total = extent.to(COMPUTE)
    centre, m2 = merge_moments(count, m, m2, total, AXIS=0)
    pivot = tl.load(mean + plane, mask=real, other=0.0)
    tl.store(mean + plane, pivot + centre.to(mean.dtype.element_ty), mask=real)
    tl.store(var + plane, m2 / total, mask=real)


@triton.jit
def merge_sums_kernel(partials, sums, sizes, SPLITS: tl.constexpr, PLANES: tl.constexpr):
    """For each of some tensors, the sum of its partials."""
    split, plane, real, valid = partials_tile(sizes, SPLITS, PLANES)
    for i in tl.static_range(len(sums)):
        parts = tl.load(partials[i] + split * sizes.planes + plane, mask=valid, other=0.0)
        tl.store(sums[i] + plane, tl.sum(parts, 0, keep_dims=True), mask=real)
