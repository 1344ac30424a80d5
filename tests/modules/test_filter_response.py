"""Filter response normalization's threshold: rounded once, each gradient where the larger is."""

import pytest
import torch

import fusednorm
from fusednorm import reference
from tests.cases import BACKENDS, LAYOUTS, TYPES, assert_twice_as_good, laid_out, randomized, three_ways

THRESHOLDS = (-1e4, -30.0, -2.0, 0.0, 0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend, dtype):
    """Counted, in whole numbers: 7200 ones at most, which float32 adds exactly."""
    layer = fusednorm.FilterResponseNorm(8)
    with torch.no_grad():
        layer.threshold.copy_(torch.linspace(-2, 2, 8))
    x = torch.randn(4, 8, 30, 30).to(dtype)
    with fusednorm.use_backend(backend):
        y = layer(x)
        y.backward(torch.ones_like(y))
    z = x.double() * torch.rsqrt(x.double().square().mean((2, 3), keepdim=True) + 1e-6)
    level = layer.threshold.detach().double().view(-1, 1, 1)
    passes = z > level
    near = ((z - level).abs() < 1e-6).sum().item()  # float32 may take either side
    assert near <= 2
    for found, expected in ((layer.bias.grad, passes), (layer.threshold.grad, ~passes)):
        assert (found.double() - expected.sum((0, 2, 3))).abs().sum() <= near
        assert torch.equal(found, found.round())


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", TYPES.values(), ids=TYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_three_ways(backend, dtype, offset, threshold, residual):
    """Also where the threshold is far below: the map's values lose no digits to it, and its gradient is 0 exactly."""
    fused, plain = randomized(fusednorm.FilterResponseNorm(8), reference.FilterResponseNorm(8))
    with torch.no_grad():
        for layer in (fused, plain):
            layer.threshold.fill_(threshold)
    shape = (4, 8, 9, 7)
    draws = three_ways(backend, fused, plain, lambda: torch.randn(shape).double() + offset, dtype, residual=residual)
    assert_twice_as_good(draws, dtype)
    if threshold <= -30:
        assert all(
            torch.equal(ours.tensors["threshold.grad"], torch.zeros(8, dtype=plain.threshold.dtype))
            for ours, *_ in draws
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_equal(backend, dtype):
    """At the start a plane of zeros is just at the threshold: as the reference, all gradient goes there."""
    x = torch.zeros(2, 3, 4, 5, dtype=dtype, requires_grad=True)
    layer = fusednorm.FilterResponseNorm(3)
    with fusednorm.use_backend(backend):
        layer(x).sum().backward()
    assert torch.equal(layer.threshold.grad, torch.full((3,), 40.0))
    assert torch.equal(layer.bias.grad, torch.zeros(3))
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_special_values(backend, dtype):
    """NaN passes through, from x and from the threshold; a threshold of -inf is none, with finite gradients."""
    layer, free = fusednorm.FilterResponseNorm(3), fusednorm.FilterResponseNorm(3, threshold=False)
    x = torch.randn(2, 3, 4, 5).to(dtype)
    x[0, 0, 0, 0] = float("nan")
    with torch.no_grad():
        layer.threshold.copy_(torch.tensor([0.0, float("nan"), float("-inf")]))
    with fusednorm.use_backend(backend):
        y, expected = layer(x), free(x)
        assert y[0, 0].isnan().all()
        assert y[:, 1].isnan().all()
        assert torch.equal(y[:, 2], expected[:, 2])
        y[:, 2].sum().backward()
    assert layer.weight.grad[2].isfinite()
    assert layer.threshold.grad[2] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved(backend, dtype, layout):
    """x, and little more: of 16 bits a byte a value, else the result, which whoever reads it keeps anyway."""
    layer = fusednorm.FilterResponseNorm(16)
    x = laid_out(torch.randn(3, 16, 16, 32).to(dtype), layout).requires_grad_()
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with fusednorm.use_backend(backend), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = layer(x)
    assert y.stride() == x.stride()
    own = kept.pop(y.untyped_storage().data_ptr(), 0)
    assert own == (y.nbytes if dtype == torch.float32 else 0)
    more = 0 if own else x.numel()
    assert sum(kept.values()) <= x.nbytes + more + 8 * 3 * 16 * 8 + 16 * 4 * 4
