"""hypothesis draws maps of any shape and strides; the native kernels must agree with plain PyTorch on all of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusednorm.engine.activations import MASKED
from fusednorm.engine.activations import NAMES as ACTS
from tests.cases import BACKENDS

OPERATORS = torch.ops.fusednorm
KERNELS = ("plane_moments", "plane_affine", "plane_affine_reduce", "plane_affine_grad")


@st.composite
def strided(draw, shape):
    """A tensor of this shape: dimensions in any order in memory, with gaps, offsets, or repeated (stride 0)."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from((1, 1, 1, 2, 3))) for _ in shape]
    margins = [draw(st.integers(0, 2)) for _ in shape]
    sizes = [m + step * n for n, step, m in zip(shape, steps, margins, strict=True)]
    t = torch.randn([sizes[d] for d in order], dtype=torch.float64).permute([order.index(d) for d in range(len(shape))])
    t = t[tuple(slice(m, m + step * n, step) for n, step, m in zip(shape, steps, margins, strict=True))]
    if draw(st.booleans()) and draw(st.booleans()):
        d = draw(st.integers(0, len(shape) - 1))
        t = t.narrow(d, 0, 1).expand(shape)
    assert t.shape == torch.Size(shape)
    return t


@st.composite
def calls(draw):
    positions = draw(st.lists(st.integers(1, 7), max_size=3))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 19)), *positions)
    x, dy, residual = (draw(strided(shape)) for _ in range(3))
    return x, dy, residual if draw(st.booleans()) else None, draw(st.sampled_from(ACTS)), draw(st.booleans())


NATIVE = [name for name in BACKENDS if name in ("cpu", "cuda")]


@pytest.mark.parametrize("backend", NATIVE)
@settings(max_examples=300, deadline=None, derandomize=True)
@given(calls())
def test_native_kernels(backend, call):
    x, dy, residual, act, shared = call
    size = (1, x.shape[1]) if shared else x.shape[:2]
    center, scale, shift, a, b = (torch.randn(size, dtype=torch.float64).expand(x.shape[:2]) for _ in range(5))
    masked = act in MASKED and residual is not None

    def results(name):
        moments, affine, reduce, grad = (getattr(getattr(OPERATORS, kernel), name) for kernel in KERNELS)
        y, mask = affine(x, center, scale, shift, residual, act, masked)
        saved = (None, mask) if masked else (residual, None)
        sums = reduce(dy, x, center, scale, shift, *saved, act, True)
        return [*moments(x), y, mask, *sums, grad(dy, x, center, scale, shift, *saved, a, b, act)]

    for ours, theirs in zip(results(backend), results("torch"), strict=True):
        assert ours.stride() == theirs.stride()
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
