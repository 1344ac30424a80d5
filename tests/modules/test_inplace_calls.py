"""inplace=True of every layer and function: memory, compiled, recorded, copied and pickled."""

import copy
import io
import itertools
import pickle

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import fusednorm
import fusednorm.functional as F
from tests.cases import BACKENDS, FAMILIES, LAYERS, LAYOUTS, QUICK, laid_out, maps_like
from tests.modules.inplace_cases import KINDS, PAIR, head, twins


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


def test_empty_maps_of_any_strides():
    x = torch.randn(0, 8, 1, 1).expand(0, 8, 3, 3)
    assert fusednorm.BatchNorm2d(8, inplace=True).requires_grad_(False)(x) is x


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
