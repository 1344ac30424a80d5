"""More than 2^31 values in a map: no index may be a 32-bit one. Against plain PyTorch, piece by piece."""

import pytest
import torch

import fusednorm
from tests.cases import channels_last
from tests.gpu.device import DEVICE, OURS

SHAPES = {"large planes": (1, 3, 27000, 27000), "many planes": (35000, 128, 22, 22)}
MAPS_HELD = 7  # x, residual, dy, y, dx, dresidual, and one to spare
PIECES = 64


def pieces(*maps):
    """The same part of every map, one after another, in float32: along samples, or rows where there is one sample."""
    dim = 0 if maps[0].shape[0] > 1 else 2
    for parts in zip(*(m.detach().chunk(PIECES, dim) for m in maps), strict=True):
        yield [part.float() for part in parts]


def per_channel(t):
    return t.double().sum((0, 2, 3))


def spread(values):
    return values.float()[:, None, None]


@pytest.fixture(autouse=True)
def _give_back():
    yield
    torch.cuda.empty_cache()


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("backend", OURS)
def test_batch_norm(backend, shape, layout):
    count = torch.Size(shape).numel()
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if free < MAPS_HELD * count * 2:
        pytest.skip(f"{MAPS_HELD * count * 2 / 2**30:.0f} GiB are needed, {free / 2**30:.0f} are free")
    assert count > 2**31

    def random_map():  # of a mean that missing a part would change
        t = torch.empty(shape, dtype=torch.bfloat16, device=DEVICE).normal_(mean=0.5)
        return channels_last(t) if layout == "channels_last" else t

    layer = fusednorm.BatchNorm2d(shape[1], act="relu").to(DEVICE)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.normal_()
    x, residual, dy = random_map().requires_grad_(), random_map().requires_grad_(), random_map()
    with fusednorm.use_backend(backend):
        y = layer(x, residual)
        dx, dresidual, dweight, dbias = torch.autograd.grad(y, [x, residual, layer.weight, layer.bias], dy)
    assert y.stride() == dx.stride() == dresidual.stride() == x.stride()

    per = count / shape[1]
    mean = sum(per_channel(a) for (a,) in pieces(x)) / per
    var = sum(per_channel((a - spread(mean)).square()) for (a,) in pieces(x)) / per
    inverse = spread(torch.rsqrt(var + layer.eps))
    weight, bias = (spread(p.detach()) for p in (layer.weight, layer.bias))

    sum_g, sum_gx = torch.zeros_like(mean), torch.zeros_like(mean)
    for a, r, upstream, found, found_dr in pieces(x, residual, dy, y, dresidual):
        normed = (a - spread(mean)) * inverse
        z = weight * normed + bias + r
        torch.testing.assert_close(found, z.relu(), atol=1e-4, rtol=2**-8)
        g = upstream * (z > 0)
        assert ((found_dr != g) & (z.abs() > 1e-4)).sum() == 0, "dresidual is dy where the gradient passes, else 0"
        sum_g += per_channel(g)
        sum_gx += per_channel(g * normed)
    torch.testing.assert_close(dbias.double(), sum_g, atol=1e-6 * per, rtol=1e-4)
    torch.testing.assert_close(dweight.double(), sum_gx, atol=1e-6 * per, rtol=1e-4)
    for a, g, found in pieces(x, dresidual, dx):
        normed = (a - spread(mean)) * inverse
        expected = weight * inverse * (g - spread(sum_g / per) - normed * spread(sum_gx / per))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=2**-8)
