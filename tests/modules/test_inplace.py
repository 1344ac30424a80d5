"""inplace=True: what inplace=False gives, over x and without another map; errors where x may not be written to."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import fusednorm
import fusednorm.functional as F
from fusednorm import recalibrations, standardizations
from tests.cases import (
    ACTS,
    BACKENDS,
    FAMILIES,
    FURTHER,
    LAYERS,
    LAYOUTS,
    MAPS,
    QUICK,
    TYPES,
    drawn,
    laid_out,
    like,
    maps_like,
    pair,
)

KINDS = LAYERS | FURTHER


def twins(kind, dims, channels, **options):
    """A layer, and a copy of it that writes over x."""
    layer = pair(kind, dims, channels, **options)[0]
    over = copy.deepcopy(layer)
    over.inplace = True
    return layer, over


def assert_same(found, expected, backend):
    """Bit for bit; torch's own operations round otherwise from layout to layout."""
    if backend == "torch":
        torch.testing.assert_close(found, expected)
    else:
        assert torch.equal(found, expected)


@torch.no_grad()
def check(backend, layer, over, x, *residual):
    """The same values over x, nothing beside them, and the same running statistics."""
    kept, version = copy.deepcopy(x), x._version
    others = [t.clone() for t in residual]
    with fusednorm.use_backend(backend):
        expected = layer(kept, *residual)
        y = over(x, *residual)
    assert y is x
    assert x._version > version
    assert not torch.equal(x, kept), "x is as it was"
    assert_same(x, expected, backend)
    for t, other in zip(residual, others, strict=True):
        assert torch.equal(t, other), "the residual is written to"
    for (name, found), theirs in zip(over.named_buffers(), layer.buffers(), strict=True):
        assert torch.equal(found, theirs), name


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


PAIR = (standardizations.Representative(8, center="spatial_mean"), recalibrations.NormalizationAttention(8))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_layers_in_one(backend, layout):
    x = laid_out(maps_like(3, 8, 6, 5).float(), layout)
    layer = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), "relu")
    over = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), "relu", inplace=True)
    check(backend, layer, over, x.clone(), torch.randn_like(x))
    check(backend, layer, over, x)


def head(mean, var):
    return 1 + mean.sigmoid(), -mean * var


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
    drawn(itertools.product(KINDS, ["float32", "bfloat16"], LAYOUTS), triton=1, cuda=2),
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


OVERLAPS = {
    "a row further": lambda b: (b[..., :-1, :], b[..., 1:, :]),
    "the other way": lambda b: (b[..., 1:, :], b[..., :-1, :]),
    "two channels on": lambda b: (b[:, :4], b[:, 2:6]),
    "transposed": lambda b: (b[:, :4], b[:, :4].mT),
    "expanded": lambda b: (b[:, :4], b[:1, :1, :1, :1].expand_as(b[:, :4])),
}


@pytest.mark.parametrize("name", OVERLAPS)
@torch.no_grad()
def test_residuals_that_share_some_of_x(name):
    buffer = torch.randn(3, 8, 6, 6)
    x, residual = OVERLAPS[name](buffer)
    before = buffer.clone()
    with pytest.raises(RuntimeError, match="inplace: expected a residual with memory of its own"):
        fusednorm.BatchNorm2d(x.shape[1], inplace=True)(x, residual)
    assert torch.equal(buffer, before)


def test_overlap_is_told_exactly():
    """Against the addresses themselves."""
    from fusednorm.inplace import _overlap

    buffer = torch.empty(400)
    for sizes, strides in (
        ((2, 3, 4), (90, 12, 2)),
        ((3, 2, 5), (7, 40, 1)),
        ((2, 2, 2), (1, 5, 40)),
        ((4, 1, 3), (3, 9, 1)),
    ):
        x = buffer.as_strided(sizes, strides, 100)
        here = set(_addresses(x))
        for offset in range(200):
            other = buffer.as_strided(sizes, strides, offset)
            shared = offset != 100 and not here.isdisjoint(_addresses(other))
            assert _overlap(x, other) == shared, (sizes, strides, offset)


def _addresses(t):
    for index in itertools.product(*map(range, t.shape)):
        yield t.storage_offset() + sum(i * s for i, s in zip(index, t.stride(), strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(2, 1, 3, 3).expand(2, 8, 3, 3),
        lambda: torch.randn(1, 8, 3, 3).expand(2, 8, 3, 3),
        lambda: torch.randn(60).as_strided((2, 8, 2, 3), (6, 3, 3, 1)),
    ],
    ids=["channels", "samples", "windows"],
)
@torch.no_grad()
def test_values_of_x_that_share_memory(make):
    with pytest.raises(RuntimeError, match="inplace: expected an x each of whose values has memory of its own"):
        fusednorm.BatchNorm2d(8, inplace=True)(make())


WANTED = {
    "x": lambda layer, x, z: x.requires_grad_(),
    "residual": lambda layer, x, z: z.requires_grad_(),
    r"a parameter of shape \(8,\)": lambda layer, x, z: layer.bias.requires_grad_(),
}


@pytest.mark.parametrize("what", WANTED)
@pytest.mark.parametrize("backend", QUICK)
def test_what_wants_a_gradient(backend, what):
    layer = fusednorm.BatchNorm2d(8, inplace=True).requires_grad_(False)
    x, residual = torch.randn(2, 8, 3, 3), torch.randn(2, 8, 3, 3)
    WANTED[what](layer, x, residual)
    before = x.detach().clone()
    with fusednorm.use_backend(backend):
        with pytest.raises(
            RuntimeError, match=f"inplace: expected nothing that wants a gradient.* got {what} that does"
        ):
            layer(x, residual)
        assert torch.equal(x, before)
        assert layer.num_batches_tracked == 0
        with torch.no_grad():
            assert layer(x, residual) is x
        layer.requires_grad_(False)
        assert layer(x.detach(), residual.detach()).grad_fn is None  # gradients on, but nothing wants one


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_refuses_gradients(kind):
    over = twins(kind, 4, 8)[1]
    x = torch.randn(3, 8, 4, 4, requires_grad=not list(over.parameters()))
    before = x.detach().clone()
    with pytest.raises(RuntimeError, match="inplace: expected nothing that wants a gradient"):
        over(x)
    assert torch.equal(x, before)


def test_gradients_of_what_is_left():
    """The threshold, the second of two layers, a function's own parameters."""
    x = torch.randn(3, 8, 6, 6)
    before = x.clone()
    frozen = fusednorm.FilterResponseNorm(8, inplace=True)
    frozen.weight.requires_grad_(False), frozen.bias.requires_grad_(False)
    two = fusednorm.RecalibratedNorm(*copy.deepcopy(PAIR), inplace=True)
    two.standardize.requires_grad_(False), two.recalibrate.requires_grad_(False)
    two.recalibrate.gain.requires_grad_()
    slope = torch.ones((), requires_grad=True)
    own = fusednorm.SqueezeExcite(8, 2, gate=lambda a: torch.sigmoid(slope * a), inplace=True).requires_grad_(False)
    for layer in (frozen, two, own):
        with pytest.raises(RuntimeError, match="inplace: expected nothing that wants a gradient"):
            layer(x)
        assert torch.equal(x, before)


def test_backward_of_others_sees_that_x_has_changed():
    x = torch.randn(2, 8, 3, 3, requires_grad=True)
    z = x.exp()
    loss = (z * z).sum()
    with torch.no_grad():
        fusednorm.BatchNorm2d(8, inplace=True)(z)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_mode():
    layer = fusednorm.BatchNorm2d(8, inplace=True).eval()
    with torch.inference_mode():
        x = torch.randn(2, 8, 3, 3)
        assert layer(x) is x
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"inplace: .* got an inference tensor outside"):
        layer(x)


def test_transforms():
    layer = fusednorm.BatchNorm2d(8, inplace=True).eval().requires_grad_(False)
    x = torch.randn(2, 8, 3, 3)
    for transformed in (
        lambda: torch.func.vmap(layer)(torch.stack([x, x])),
        lambda: torch.func.grad(lambda x: layer(x).sum())(x),
        lambda: torch.func.jvp(layer, (x,), (x,)),
    ):
        with torch.no_grad(), pytest.raises(RuntimeError, match=r"inplace: expected no torch\.func transform"):
            transformed()


def peak(function, *inputs):
    """Bytes beyond what was there before, of torch's allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        function(*inputs)
    events = (e for e in found.profiler.kineto_results.events() if e.name() == "[memory]")
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())), default=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.skipif("cpu" not in BACKENDS, reason="no native extension")
@torch.no_grad()
def test_no_other_map(kind, layout):
    layer, over = twins(kind, 4, 48, act="relu")
    x, residual = (laid_out(torch.randn(2, 48, 32, 32), layout) for _ in range(2))
    with fusednorm.use_backend("cpu"):
        layer(x, residual), over(x.clone(), residual)  # what is made once
        assert peak(layer, x, residual) >= x.nbytes
        assert peak(over, x, residual) < x.nbytes / 2


@torch.no_grad()
def test_without_the_native_extension():
    layer = fusednorm.BatchNorm2d(8, act="silu", inplace=True).eval()
    x = torch.randn(4, 8, 64, 64)
    with fusednorm.use_backend("torch"):
        layer(x)
        assert peak(layer, x) < x.nbytes / 2


@pytest.mark.parametrize("shape", [(0, 8, 3, 3), (2, 8, 0, 3)])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_empty_maps(kind, shape):
    over = twins(kind, 4, 8)[1]
    before = copy.deepcopy(over.state_dict())
    x = torch.randn(shape)
    assert over(x) is x
    for name, t in over.state_dict().items():
        assert torch.equal(t, before[name]), name


@pytest.mark.parametrize("kind", [*LAYERS, *FAMILIES, "filter response"])
@pytest.mark.parametrize("backend", QUICK)
@torch.no_grad()
def test_compiled(backend, kind):
    """One graph, and x written over."""
    torch._dynamo.reset()
    layer, over = twins(kind, 4, 8, act="relu")
    x, residual = (maps_like(4, 8, 5, 3).float() for _ in range(2))
    z = x.clone()
    with fusednorm.use_backend(backend):
        expected = layer(x, residual)
        y = torch.compile(over, fullgraph=True, backend="aot_eager")(z, residual)
    assert y is z
    assert z._version > 0
    torch.testing.assert_close(z, expected)
    for found, theirs in zip(over.buffers(), layer.buffers(), strict=True):
        torch.testing.assert_close(found, theirs)


@pytest.mark.parametrize("kind", ["batch", "filter response"])
@torch.no_grad()
def test_compiled_slices_of_changing_sizes(kind):
    torch._dynamo.reset()
    layer, over = (m.eval() for m in twins(kind, 4, 8, act="relu"))
    compiled = torch.compile(lambda b: over(b[:, 2:10], b[:, 10:18]), fullgraph=True, dynamic=True, backend="aot_eager")
    for samples in (2, 3, 5):
        buffer = maps_like(samples, 20, 4 + samples, 7).float()
        expected = buffer.clone()
        expected[:, 2:10] = layer(buffer[:, 2:10], buffer[:, 10:18])
        compiled(buffer)
        torch.testing.assert_close(buffer, expected)


@torch.no_grad()
def test_compiled_with_x_for_residual():
    torch._dynamo.reset()
    layer, over = twins("batch", 4, 8, act="relu")
    x = torch.randn(4, 8, 5, 3)
    expected = layer(x, x)
    torch.compile(over, fullgraph=True, backend="aot_eager")(x, x)
    torch.testing.assert_close(x, expected)


@pytest.mark.skipif("cpu" not in BACKENDS, reason="no native extension")
@torch.no_grad()
def test_inductor_makes_no_copy():
    torch._dynamo.reset()
    over = twins("attentive batch", 4, 8, act="relu")[1].eval()
    compiled = torch.compile(over, fullgraph=True)
    x, residual = (torch.randn(4, 8, 64, 64) for _ in range(2))
    z = x.clone()
    compiled(z, residual)
    over(x, residual)
    torch.testing.assert_close(x, z)
    assert peak(compiled, x, residual) < x.nbytes / 2


def test_compiled_with_gradients_is_refused():
    torch._dynamo.reset()
    compiled = torch.compile(fusednorm.BatchNorm2d(8, inplace=True), backend="eager")
    with pytest.raises(RuntimeError, match="inplace: expected nothing that wants a gradient"):
        compiled(torch.randn(2, 8, 3, 3))


@torch.no_grad()
def test_autocast_leaves_the_type_alone():
    layer, over = twins("attentive batch", 4, 8, act="relu")
    x = torch.randn(4, 8, 5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(x)
        assert over(x) is x
    assert torch.equal(x, expected)


def test_calls_that_were_recorded_before():
    """A layer whose calls are replayed past Python may be told so later."""
    layer = fusednorm.BatchNorm2d(8)
    x = torch.randn(2, 8, 3, 3)
    with torch.no_grad():
        for _ in range(3):
            layer(x)
        layer.inplace = True
        assert layer(x) is x
        layer.inplace = False
        assert layer(x) is not x


C, K = 8, 3
VECTORS = {"weight": torch.rand(C), "bias": torch.randn(C)}
GATE = (torch.randn(2, C), torch.randn(C, 2))
FUNCTIONS = {
    "batch_norm": {"running_mean": torch.randn(C), "running_var": torch.rand(C), "training": True, **VECTORS},
    "group_norm": {"num_groups": 2, **VECTORS},
    "attentive_batch_norm": {
        "weight": torch.rand(K, C),
        "bias": torch.randn(K, C),
        "attention_weight": torch.randn(K, C),
    },
    "attentive_group_norm": {
        "num_groups": 2,
        "weight": torch.rand(K, C),
        "bias": torch.randn(K, C),
        "attention_weight": torch.randn(K, C),
    },
    "representative_batch_norm": {
        "center_weight": torch.randn(C),
        "scale_weight": torch.randn(C),
        "scale_bias": torch.randn(C),
    },
    "switchable_norm": {"mean_weight": torch.rand(3), "var_weight": torch.rand(3)},
    "squeeze_excite": {"reduce_weight": GATE[0], "expand_weight": GATE[1]},
    "efficient_channel_attention": {"conv_weight": torch.randn(1, 1, 3)},
    "style_recalibration": {"style_weight": torch.randn(C, 2), "norm": F.AttentionNorm(torch.rand(C), torch.randn(C))},
    "gather_excite": {},
    "global_response_norm": VECTORS,
    "instance_enhancement_batch_norm": {
        "running_mean": None,
        "running_var": None,
        "enhance_weight": torch.randn(C),
        "enhance_bias": torch.randn(C),
        **VECTORS,
    },
    "filter_response_norm": {"threshold": torch.randn(C), **VECTORS},
    "normalization_attention": {"gain": torch.ones(1), "offset": torch.ones(1)},
    "fused_norm": {"head": head},
}


def test_all_functions_are_here():
    assert set(FUNCTIONS) == set(F.__all__) - {"AttentionNorm"}


@pytest.mark.parametrize("name", FUNCTIONS)
@torch.no_grad()
def test_functions(name):
    function, arguments = getattr(F, name), FUNCTIONS[name]
    x, residual = torch.randn(3, C, 5, 4), torch.randn(3, C, 5, 4)
    expected = function(x, **copy.deepcopy(arguments), residual=residual)
    assert not torch.equal(x, expected)
    assert function(x, **copy.deepcopy(arguments), residual=residual, inplace=True) is x
    assert torch.equal(x, expected)


CONSTRUCTED = {
    name: getattr(fusednorm, name)
    for name in fusednorm.__all__
    if isinstance(getattr(fusednorm, name), type) and issubclass(getattr(fusednorm, name), torch.nn.Module)
}
ARGUMENTS = {
    "FusedNorm": (head,),
    "RecalibratedNorm": PAIR,
    "NormalizationAttention": (),
    "GroupNorm": (2, 8),
    "AttentiveGroupNorm": (2, 8),
}


@pytest.mark.parametrize("name", CONSTRUCTED)
def test_constructors(name):
    make, arguments = CONSTRUCTED[name], ARGUMENTS.get(name, (8,))
    assert "inplace" not in repr(make(*arguments))
    layer = make(*arguments, inplace=True)
    assert "inplace=True" in repr(layer)
    assert copy.deepcopy(layer).inplace
    assert pickle.loads(pickle.dumps(layer)).inplace
    layer = make(*arguments)
    del layer.inplace  # pickled before there was this
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    old = torch.load(file, weights_only=False)
    assert "inplace" not in vars(old)
    assert not old.inplace
    dims = old.dims[-1] if getattr(old, "dims", None) else 4
    x = torch.randn(2, 8, *[4] * (dims - 2))
    assert old(x) is not x
