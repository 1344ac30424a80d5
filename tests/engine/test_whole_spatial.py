"""Representative BatchNorm with statistics over channels at each position as one operator a direction, on `cpu`."""

from __future__ import annotations

import itertools

import pytest
import torch

import fusednorm
from fusednorm import backends, reference
from fusednorm.engine import whole_spatial
from tests.cases import LAYOUTS, TYPES, Contender, assert_twice_as_good, laid_out, maps_like, randomized, three_ways
from tests.engine.test_operators import UTILITIES

pytestmark = pytest.mark.skipif(not backends()["cpu"].available, reason="no native extension")

STATISTICS = (None, "mean", "std", "spatial_mean", "spatial_std")
PAIRS = [pair for pair in itertools.product(STATISTICS, STATISTICS) if any("spatial" in str(name) for name in pair)]
# Planar: one tile, and several with a short last one. channels_last: rows in blocks of 32, the last one short.
SHAPES = ((3, 40, 7, 9), (2, 19, 21, 16))


def pair(center, scale, C, **options):
    made = (ns.RepresentativeBatchNorm2d(C, center=center, scale=scale, **options) for ns in (fusednorm, reference))
    return randomized(*made)


@pytest.fixture
def calls(monkeypatch):
    """The operators' calls, in their order."""
    found = []
    for name in ("forward", "backward"):
        own = getattr(whole_spatial, name)
        monkeypatch.setattr(whole_spatial, name, lambda *call, own=own, name=name: (found.append(name), own(*call))[1])
    return found


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("turn", "center", "scale"), [(i, *pair) for i, pair in enumerate(PAIRS)])
def test_three_ways(turn, center, scale, layout, training, calls):
    shape, dtype = SHAPES[turn % 2], ("float32", "bfloat16", "float16")[turn % 3]
    restrict, act = ("sigmoid", "tanh", "hsigmoid")[turn % 3], ("relu", "silu", None)[turn // 3 % 3]
    layers = pair(center, scale, shape[1], act=act, restrict=restrict, affine=turn % 4 != 1)
    for residual in (False, True):
        draws = three_ways(
            "cpu",
            *layers,
            lambda: laid_out(maps_like(*shape), layout),
            TYPES[dtype],
            residual=residual,
            training=training,
        )
        assert_twice_as_good(draws, TYPES[dtype])
    assert set(calls) == {"forward", "backward"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("center", "scale"), PAIRS)
def test_as_composed(center, scale, layout, monkeypatch):
    """The same values are kept either way, so that either way there goes with either way back."""
    fused, _ = pair(center, scale, 19, act="relu")
    x, dy, residual = (laid_out(maps_like(2, 19, 21, 16), layout) for _ in range(3))
    whole = Contender(fused, x, residual, dy).tensors
    covers = whole_spatial.covers
    for there, back in ((False, True), (True, False), (False, False)):
        monkeypatch.setattr(whole_spatial, "covers", covers if there else lambda spec: False)
        monkeypatch.setattr(whole_spatial, "covers_backward", lambda spec, needs, back=back: back)
        for name, found in Contender(fused, x, residual, dy).tensors.items():
            torch.testing.assert_close(found, whole[name], rtol=1e-9, atol=1e-10)
        monkeypatch.undo()


@pytest.mark.parametrize("wanted", ["x", "residual", "weight", "bias", "center_weight", "scale_weight", "scale_bias"])
def test_one_gradient(wanted):
    """Where others are not asked for."""
    fused, plain = pair("spatial_std", "spatial_mean", 8, act="relu6")
    found = []
    for layer in (fused, plain):
        torch.manual_seed(1)
        x, dy, residual = (maps_like(3, 8, 5, 4) for _ in range(3))
        named = {"x": x, "residual": residual, **dict(layer.double().named_parameters())}
        for name, t in named.items():
            t.requires_grad_(name == wanted)
        found.append(torch.autograd.grad(layer(x, residual), named[wanted], dy)[0])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("statistic", ["spatial_mean", "spatial_std"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_change_nothing(layout, statistic):
    fused, _ = pair(statistic, statistic, 19, act="relu")
    x, dy, residual = (laid_out(maps_like(2, 19, 40, 33).float(), layout) for _ in range(3))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(Contender(fused, x, residual, dy).tensors)
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for name, t in other.items():
            torch.testing.assert_close(t, found[0][name], rtol=0, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_large_maps_with_gaps(layout):
    """Few channels: a tile could be longer than what is gathered at a time."""
    fused, plain = pair("spatial_mean", "spatial_std", 3, act="relu")
    x, residual = (laid_out(maps_like(2, 3, 400, 402), layout)[..., 1:-1] for _ in range(2))
    dy = torch.randn(2, 3, 1, 1, dtype=x.dtype).expand_as(x)
    theirs = Contender(plain, x, residual, dy)
    for name, found in Contender(fused, x, residual, dy).tensors.items():
        torch.testing.assert_close(found, theirs.tensors[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("running", [False, True], ids=["batch", "running"])
@pytest.mark.parametrize(
    ("center", "scale"), [("none", "spatial_std"), ("spatial_std", "none"), ("mean", "spatial_mean")]
)
def test_opcheck(center, scale, running):
    x, dy, residual = (maps_like(3, 4, 5, 2) for _ in range(3))
    own = [torch.rand(4, dtype=x.dtype) + 0.5 for _ in range(7)]
    weight, bias, *rest = own
    given = (
        *(t if running else None for t in rest[:2]),
        rest[2] if center != "none" else None,
        *(t if scale != "none" else None for t in rest[3:]),
    )
    layer = (weight, bias, *given, center, scale, "tanh", 1e-5, "relu")
    forward, backward = torch.ops.fusednorm.spatial_forward.cpu, torch.ops.fusednorm.spatial_backward.cpu
    torch.library.opcheck(forward, (x, residual, *layer), test_utils=UTILITIES)
    _, *kept = forward(x, residual, *layer)
    for need_dx, write_g in itertools.product((False, True), repeat=2):
        call = (dy, x, residual, *kept[:7], *layer, need_dx, write_g)
        torch.library.opcheck(backward, call, test_utils=UTILITIES)


def test_tensors_of_other_layers_are_refused():
    x = maps_like(3, 4, 5, 2)
    some = torch.ones(4, dtype=x.dtype)
    for layer in (
        (some, some, some, None, None, some, some, "none", "spatial_mean"),
        (some, some, None, None, None, None, None, "spatial_mean", "none"),
        (some, some, None, None, None, some, None, "none", "spatial_mean"),
        (some, some, None, None, some, some, some, "mean", "mean"),
    ):
        with pytest.raises(RuntimeError, match="one of them spatial"):
            torch.ops.fusednorm.spatial_forward.cpu(x, None, *layer, "sigmoid", 1e-5, "relu")
    layer = (None, None, None, None, some, some, some, "spatial_mean", "median")
    with pytest.raises(RuntimeError, match="got 'median'"):
        torch.ops.fusednorm.spatial_forward.cpu(x, None, *layer, "sigmoid", 1e-5, "relu")
    layer = (None, None, None, None, some, None, None, "spatial_mean", "none", "sigmoid", 1e-5, "relu")
    _, *kept = torch.ops.fusednorm.spatial_forward.cpu(x, None, *layer)
    for i in range(5):
        given = [t if i != j else t[:1] for j, t in enumerate(kept[:7])]
        with pytest.raises(RuntimeError, match="dense values"):
            torch.ops.fusednorm.spatial_backward.cpu(x, x, None, *given, *layer, True, False)
