"""torch.compile: one graph each way, through Inductor, with the eager results."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

import fusednorm
from tests.cases import FAMILIES, LAYERS, LAYOUTS
from tests.gpu.device import BACKENDS, gradients, layers, normal

CASES = [(b, k, la) for b in BACKENDS for k in LAYERS for la in LAYOUTS if b == "cuda" or k == "attentive batch"]
CASES += [("cuda", kind, "channels_last") for kind in FAMILIES if "cuda" in BACKENDS]


@pytest.mark.parametrize(("backend", "kind", "layout"), CASES)
def test_inductor(backend, kind, layout):
    torch._dynamo.reset()
    counters.clear()
    eager, _ = layers(kind, 4, 8, act="relu")
    own = copy.deepcopy(eager)
    compiled = torch.compile(own, fullgraph=True)
    maps = [normal(4, 8, 5, 3, layout=layout) for _ in range(3)]
    with fusednorm.use_backend(backend):
        ours, theirs = gradients(compiled, *maps), gradients(eager, *maps)
    assert counters["stats"]["unique_graphs"] == 1
    for a, b in zip([*ours, *own.buffers()], [*theirs, *eager.buffers()], strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
    assert ours[0].stride() == theirs[0].stride()


@pytest.mark.parametrize("backend", BACKENDS)
def test_dynamic_shapes(backend):
    torch._dynamo.reset()
    eager, _ = layers("attentive batch", 4, 8, act="relu")
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, dynamic=True)
    with fusednorm.use_backend(backend):
        for size in (5, 6, 11):
            maps = [normal(4, 8, size, 3) for _ in range(3)]
            for a, b in zip(gradients(compiled, *maps), gradients(eager, *maps), strict=True):
                torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name == "cuda"])
def test_reduce_overhead(backend):
    """Inductor's own CUDA graphs."""
    torch._dynamo.reset()
    eager, _ = layers("attentive batch", 4, 8, act="relu")
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, mode="reduce-overhead")
    with fusednorm.use_backend(backend):
        for _ in range(4):
            torch.compiler.cudagraph_mark_step_begin()
            maps = [normal(4, 8, 5, 3) for _ in range(3)]
            for a, b in zip(gradients(compiled, *maps), gradients(eager, *maps), strict=True):
                torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)
