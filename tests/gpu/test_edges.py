"""Empty tensors, planes of one position, NaN and infinity, constant planes, gradients in other layouts."""

import pytest
import torch

import fusednorm
from tests.cases import LAYERS, LAYOUTS, channels_last, laid_out
from tests.gpu.device import BACKENDS, DEVICE, OURS, gradients, layers, normal


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape", [(0, 6, 4, 4), (3, 6, 0, 4)], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty(backend, kind, shape, training):
    layer = layers(kind, 4, 6, act="relu")[0].train(training)
    before = [b.clone() for b in layer.buffers()]
    x, residual, dy = (torch.randn(shape, device=DEVICE) for _ in range(3))
    with fusednorm.use_backend(backend):
        y, dx, dresidual, *rest = gradients(layer, x, residual, dy)
    assert y.shape == dx.shape == dresidual.shape == shape
    assert all((t == 0).all() for t in rest)
    assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), before, strict=True))


@pytest.mark.parametrize("backend", OURS)
def test_operators_of_empty_maps(backend):
    """The layers never call them so; the operators stand it all the same."""
    x, planes = torch.randn(2, 6, 0, 4, device=DEVICE), torch.randn(2, 6, device=DEVICE)
    ops = torch.ops.fusednorm
    assert getattr(ops.plane_moments, backend)(x)[0].shape == (2, 6)
    y, _ = getattr(ops.plane_affine, backend)(x, planes, planes, planes, None, "relu", True)
    assert y.shape == x.shape
    _, dscale, dshift = getattr(ops.plane_affine_reduce, backend)(
        x, x, planes, planes, planes, None, None, "relu", False
    )
    assert not dscale.any()
    assert not dshift.any()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_position(backend, dims, kind):
    fused, plain = layers(kind, dims, 6)
    x = torch.randn((5, 6) + (1,) * (dims - 2), device=DEVICE)
    with fusednorm.use_backend(backend):
        ours = gradients(fused, x, None, torch.ones_like(x))
    assert all(t.isfinite().all() for t in ours)
    torch.testing.assert_close(ours[0], plain(x))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["group", "attentive group"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_not_finite_in_one_sample(backend, kind, layout, value):
    """It stays in its sample, and the groups of it that the mathematics say."""
    fused, plain = layers(kind, 4, 12)
    x = normal(3, 12, 5, 3, layout=layout)
    x[1, 4, 2, 1] = value
    with fusednorm.use_backend(backend):
        ours = fused(x)
    expected = plain(x)
    assert (ours.isfinite() | ~expected.isfinite()).all(), "spread too far"
    assert ours[0].isfinite().all()
    assert ours[2].isfinite().all()
    assert not ours[1].isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_planes(backend, kind, layout):
    """Nothing to standardize: variance 0 however large the value, never below."""
    for level in (1.2345e4, 1e9):
        x = (torch.rand(4, 3, 1, 1, device=DEVICE) * level + level).expand(4, 3, 70, 70)
        x = laid_out(x.contiguous(), layout)
        with fusednorm.use_backend(backend):
            mean, var = getattr(torch.ops.fusednorm.plane_moments, backend)(x)
            y = layers(kind, 4, 3)[0](x)
        assert (var >= 0).all()
        assert (var <= (level * 2**-23) ** 2).all()
        torch.testing.assert_close(mean, x[:, :, 0, 0].double(), rtol=1e-7, atol=0)
        assert y.isfinite().all()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_in_other_layouts(backend, kind):
    """dy comes expanded (from a sum), in the other layout, or with gaps; residual in another layout than x."""
    layer, _ = layers(kind, 4, 6, act="relu")
    x, residual, dy = (normal(4, 6, 5, 3) for _ in range(3))
    gaps = torch.zeros(4, 12, 5, 3, device=DEVICE)
    gaps[:, ::2] = dy
    with fusednorm.use_backend(backend):
        expected = gradients(layer, x, residual, dy)
        for variant in (
            (x, channels_last(residual), channels_last(dy)),
            (channels_last(x), residual, dy),
            (x, residual, gaps[:, ::2]),
            (x.transpose(2, 3).contiguous().transpose(2, 3), residual, dy),
        ):
            for ours, theirs in zip(gradients(layer, *variant), expected, strict=True):
                torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        ones = gradients(layer, x, residual, torch.ones_like(dy))
        expanded = gradients(layer, x, residual, torch.ones((), device=DEVICE).expand_as(dy))
        for ours, theirs in zip(expanded, ones, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_the_fastest_that_is_there_is_chosen():
    from fusednorm.engine.backends import choose

    assert choose(torch.empty(1, device=DEVICE)) == next(b for b in ("cuda", "triton", "torch") if b in BACKENDS)


@pytest.mark.parametrize("backend", OURS)
def test_autocast(backend):
    """bfloat16 maps from an autocast convolution; parameters, statistics and the head stay float32."""
    layer, plain = layers("attentive batch", 4, 8, act="relu")
    conv = torch.nn.Conv2d(3, 8, 3).to(DEVICE)
    with fusednorm.use_backend(backend), torch.autocast(DEVICE, torch.bfloat16):
        z = conv(normal(4, 3, 9, 9))
        y = layer(z)
    assert y.dtype == torch.bfloat16
    exact = plain.double()(z.double())
    assert (y.double() - exact).abs().max() <= exact.abs().max() * 2**-8  # one rounding to bfloat16
