"""inplace=True: what inplace=False gives, over x."""

import copy
import itertools

import pytest
import torch

import fusednorm
from tests.cases import (
    ACTS,
    BACKENDS,
    LAYOUTS,
    MAPS,
    QUICK,
    TYPES,
    drawn,
    laid_out,
    like,
    maps_like,
)
from tests.modules.inplace_cases import KINDS, PAIR, assert_same, check, head, twins


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("kind", "name"), list(itertools.product(KINDS, MAPS)))
@pytest.mark.parametrize("backend", QUICK)
def test_every_layer_and_strides(backend, kind, name, training):
    number = list(KINDS).index(kind) + list(MAPS).index(name)
    x = like(MAPS[name](), list(TYPES.values())[number % 4])
    if x.shape[0] == 1 and kind in ("style recalibration", "attentive batch"):
        pytest.skip("statistics over samples")
    layer, over = (m.train(training) for m in twins(kind, x.dim(), x.shape[1], act=ACTS[number % 7]))
    if x.dtype == torch.float64:
        layer.double(), over.double()
    gaps = x._base.isnan().sum() if x._base is not None else 0
    check(backend, layer, over, x, *([torch.randn_like(x)] if number % 2 else []))
    if x._base is not None:
        assert x._base.isnan().sum() == gaps, "what lies between x's values is written to"


@pytest.mark.parametrize(
    ("backend", "kind", "name", "dtype"),
    [case for case in drawn(itertools.product(KINDS, MAPS, TYPES), triton=1, cuda=6) if case[0] not in QUICK],
)
def test_slow_backends(backend, kind, name, dtype):
    x = like(MAPS[name](), TYPES[dtype])
    if x.shape[0] == 1 and kind in ("style recalibration", "attentive batch"):
        pytest.skip("statistics over samples")
    layer, over = twins(kind, x.dim(), x.shape[1], act="relu6")
    if x.dtype == torch.float64:
        layer.double(), over.double()
    check(backend, layer, over, x, torch.randn_like(x))


@pytest.mark.parametrize(("act", "dtype"), [*((act, "float32") for act in ACTS), *(("relu", dtype) for dtype in TYPES)])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["attentive batch", "representative spatial", "normalization attention"])
@pytest.mark.parametrize("backend", QUICK)
def test_large_maps(backend, kind, layout, act, dtype):
    """Planes in several runs, rows in several blocks, and what is written past the caches."""
    x = laid_out(maps_like(2, 24, 67, 71).to(TYPES[dtype]), layout)
    layer, over = twins(kind, 4, 24, act=act)
    if dtype == "float64":
        layer.double(), over.double()
    check(backend, layer, over, x, torch.randn_like(x))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_layers_in_one(backend, layout):
    x = laid_out(maps_like(3, 8, 6, 5).float(), layout)
    layer = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), "relu")
    over = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), "relu", inplace=True)
    check(backend, layer, over, x.clone(), torch.randn_like(x))
    check(backend, layer, over, x)


@pytest.mark.parametrize("backend", BACKENDS)
def test_own_heads_and_gates(backend):
    x = maps_like(3, 8, 6, 5).float()
    check(backend, fusednorm.FusedNorm(head, "silu"), fusednorm.FusedNorm(head, "silu", inplace=True), x.clone())
    gated = [fusednorm.SqueezeExcite(8, 2, gate=torch.sigmoid, inplace=inplace) for inplace in (False, True)]
    gated[1].load_state_dict(gated[0].state_dict())
    check(backend, *gated, x)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_threshold(backend, residual, dtype):
    x = maps_like(3, 8, 6, 5).to(TYPES[dtype])
    layer = fusednorm.FilterResponseNorm(8, dtype=torch.float64 if dtype == "float64" else None)
    with torch.no_grad():
        layer.threshold.uniform_(-1, 1)
        layer.threshold[3] = torch.nan
    over = copy.deepcopy(layer)
    over.inplace = True
    with torch.no_grad(), fusednorm.use_backend(backend):
        more = [torch.randn_like(x)] if residual else []
        expected = layer(x, *more)
        assert over(x, *more) is x
    torch.testing.assert_close(x, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("backend", "kind", "dtype", "layout"),
    list(drawn(itertools.product(KINDS, ["float32", "bfloat16"], LAYOUTS), triton=1, cuda=2)),
)
@torch.no_grad()
def test_the_residual_may_be_x(backend, kind, dtype, layout):
    x = laid_out(maps_like(4, 8, 5, 3).to(TYPES[dtype]), layout)
    layer, over = twins(kind, 4, 8, act="relu")
    with fusednorm.use_backend(backend):
        expected = layer(x, x)
        for other in (lambda t: t, lambda t: t.view_as(t)):
            z = x.clone()
            over.load_state_dict(layer.state_dict())
            over(z, other(z))
            assert_same(z, expected, backend)


@torch.no_grad()
def test_the_residual_of_two_layers_may_be_x():
    x = maps_like(3, 8, 6, 5).float()
    layer = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), "relu").eval()
    expected = layer(x, x)
    layer.inplace = True
    assert torch.equal(layer(x, x), expected)


@torch.no_grad()
def test_residuals_beside_x_in_one_buffer():
    layer, over = twins("batch", 4, 4, act="relu")
    layer.eval(), over.eval()
    for make in (
        lambda b: b.chunk(2, 1),
        lambda b: b[:, :4].unflatten(3, (-1, 2)).unbind(4),
        lambda b: (b[:3, :4], b[3:, :4]),
    ):
        buffer = maps_like(6, 8, 6, 10).float()
        expected = layer(*make(buffer.clone()))
        y, residual = make(buffer)
        before = residual.clone()
        assert torch.equal(over(y, residual), expected)
        assert torch.equal(residual, before)
