"""Representative BatchNorm: every pair of statistics, its start, its running statistics, its limits."""

import itertools

import pytest
import torch
from torch import nn

import fusednorm
from fusednorm import reference
from tests.cases import BACKENDS, LAYOUTS, Contender, assert_like_reference, drawn, laid_out, maps_like, randomized

STATISTICS = ("mean", "std", "spatial_mean", "spatial_std", None)
RESTRICT = ("sigmoid", "tanh", "hsigmoid")
NAMES = {2: "RepresentativeBatchNorm1d", 3: "RepresentativeBatchNorm1d", 4: "RepresentativeBatchNorm2d"}
NAMES[5] = "RepresentativeBatchNorm3d"
SHAPES = {2: (5, 6), 3: (4, 6, 11), 4: (4, 6, 5, 3), 5: (4, 6, 2, 3, 4)}


def compare(backend, shape, training, act="relu", **options):
    """float64, results, gradients, buffers."""
    name = NAMES[len(shape)]
    fused, plain = randomized(*(getattr(ns, name)(shape[1], act=act, **options) for ns in (fusednorm, reference)))
    assert_like_reference(backend, fused, plain, maps_like(*shape), training)


PAIRS = list(itertools.product(STATISTICS, STATISTICS))


@pytest.mark.parametrize(
    ("backend", "center", "scale", "restrict", "dims"),
    list(
        drawn(
            [
                (center, scale, RESTRICT[(i + dims) % 3], dims)
                for i, (center, scale) in enumerate(PAIRS)
                for dims in (4, 2 + i % 4)
            ],
            cuda=1,
        )
    ),
)
def test_statistics(backend, center, scale, restrict, dims):
    """The whole of Tables 2 and 3, in training and in evaluation."""
    for training in (True, False):
        compare(backend, SHAPES[dims], training, center=center, scale=scale, restrict=restrict, momentum=0.3)


@pytest.mark.parametrize("scale", ["std", "spatial_mean"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_restrict_by_a_function(backend, scale):
    """In plain PyTorch, whichever the backend."""
    compare(backend, (4, 6, 5, 3), True, scale=scale, restrict=lambda a: torch.exp(-a.square()))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_affine(backend, affine):
    compare(backend, (4, 6, 5, 3), True, affine=affine, center="std", scale="std")


@pytest.mark.parametrize("name", ["mean", "std", "spatial_mean", "spatial_std"])
def test_what_an_option_leaves_out(name):
    layer = fusednorm.RepresentativeBatchNorm2d(6, center=None, scale=name, affine=False)
    assert layer.center_weight is layer.weight is layer.bias is None
    assert set(dict(layer.named_parameters())) == {"scale_weight", "scale_bias"}
    layer = fusednorm.RepresentativeBatchNorm2d(6, center=name, scale=None, track_running_stats=False)
    assert layer.scale_weight is layer.scale_bias is layer.running_mean is None
    assert set(layer.state_dict()) == {"weight", "bias", "center_weight"}


@pytest.mark.parametrize("scale", ["mean", "spatial_std"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_at_the_start(backend, scale):
    """Batch normalization times R(1)."""
    layer, x = fusednorm.RepresentativeBatchNorm2d(6, scale=scale), torch.randn(4, 6, 5, 3)
    with fusednorm.use_backend(backend):
        y = layer(x)
    torch.testing.assert_close(
        y, torch.sigmoid(torch.ones(())) * nn.functional.batch_norm(x, None, None, training=True)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_statistics(backend):
    """center and scale None: plain BatchNorm."""
    layer, plain = fusednorm.RepresentativeBatchNorm2d(6, center=None, scale=None), nn.BatchNorm2d(6)
    x = torch.randn(4, 6, 5, 3) + 1
    with fusednorm.use_backend(backend):
        torch.testing.assert_close(layer(x), plain(x))
    assert layer.state_dict().keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], value)


@pytest.mark.parametrize("center", ["mean", "std", "spatial_mean", "spatial_std"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_running_statistics_of_the_centred_map(backend, center):
    """In torch's convention, with the unbiased variance; and x itself is left alone."""
    layer = fusednorm.RepresentativeBatchNorm2d(6, center=center, momentum=0.3)
    with torch.no_grad():
        layer.center_weight.copy_(torch.randn(6))
    x = torch.randn(4, 6, 5, 3) + 1
    before = x.clone()
    dims, keep = ((1,) if "spatial" in center else (2, 3)), {"keepdim": True}
    K = x.mean(dims, **keep) if center.endswith("mean") else x.std(dims, correction=0, **keep)
    centred = x + layer.center_weight.detach().view(-1, 1, 1) * K
    theirs = nn.BatchNorm2d(6, momentum=0.3)
    theirs(centred)
    with fusednorm.use_backend(backend):
        layer(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(layer.running_mean, theirs.running_mean)
    torch.testing.assert_close(layer.running_var, theirs.running_var)


# A map standardized by channel is alike in all of them where they are calculated by the same instructions: not where
# some of a row's fill a vector and others are left over.
@pytest.mark.parametrize(
    ("center", "scale", "channels", "layout"),
    [
        *itertools.product(("std",), ("std",), (3, 19), LAYOUTS),
        *itertools.product(("spatial_std",), ("mean",), (3, 6, 19), LAYOUTS),
        *itertools.product(("mean",), ("spatial_std",), (3, 6), LAYOUTS),
        ("mean", "spatial_std", 19, "nchw"),
    ],
)
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "triton"])
def test_no_spread(backend, center, scale, channels, layout):
    """Deviations of 0 (constant planes, channels alike) have derivative 0: nothing is NaN, all is the reference's."""
    fused, plain = randomized(
        *(ns.RepresentativeBatchNorm2d(channels, center=center, scale=scale) for ns in (fusednorm, reference))
    )
    fused.double(), plain.double()
    planes = torch.randn(4, channels, 1, 1, dtype=torch.float64).expand(-1, -1, 5, 3)
    alike = torch.randn(4, 1, 5, 3, dtype=torch.float64).expand(-1, channels, -1, -1)
    if scale == "spatial_std":  # of x_hat: alike only where the centering is
        with torch.no_grad():
            for layer in (fused, plain):
                layer.center_weight.fill_(0.25)
    for case, x in (("constant planes", planes), ("channels alike", alike)):
        dy = torch.randn_like(x)
        with fusednorm.use_backend(backend):
            ours = Contender(fused, laid_out(x, layout), None, laid_out(dy, layout)).tensors
        # in PyTorch's own sums over positions, channels that are alike are so to the last bit in NCHW alone
        theirs = Contender(plain, x.contiguous(), None, dy.contiguous()).tensors
        for name, expected in theirs.items():
            assert ours[name].isfinite().all(), f"{case}: {name}"
            error = (ours[name] - expected).abs().max().item()
            assert error <= 1e-9 * max(1.0, expected.abs().max().item()), f"{case}: {name} off by {error:.3g}"
