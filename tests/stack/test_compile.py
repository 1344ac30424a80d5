"""torch.compile of layers and networks: no graph breaks, few recompilations, the eager results.

One graph a direction for every layer and backend, and the switch of modes: tests/modules/test_compile.py.
"""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import fusednorm
from tests.cases import FURTHER, LAYERS
from tests.stack.layers import OWN, assert_same_step, layer, maps, network

SHAPES = [(4, 8, 6, 5), (6, 8, 7, 9), (3, 8, 10, 4), (5, 8, 3, 11)]

never_again = torch._dynamo.config.patch(error_on_recompile=True)


def close(ours, theirs, *inputs):
    assert_same_step(ours, theirs, *inputs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "training"), [("attentive batch", True), ("attentive batch", False), (OWN, True)])
def test_other_shapes(kind, training):
    """Batch and spatial size change: compiled once for the first, and once more for all others."""
    torch._dynamo.reset()
    eager = layer(kind).train(training)
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, backend="aot_eager")
    for shape in SHAPES[:2]:
        close(compiled, eager, *maps(*shape))
    with never_again:
        for shape in SHAPES[2:]:
            close(compiled, eager, *maps(*shape))


def dynamic_twice(kind):
    """Two layers one after the other, with dynamic shapes from the start: what a module's numbers are may not be the
    compiler's to share between them."""
    torch._dynamo.reset()
    eager = nn.Sequential(layer(kind), layer(kind))
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, dynamic=True, backend="eager")
    close(compiled, eager, torch.randn(SHAPES[0]))
    with never_again:
        close(compiled, eager, torch.randn(SHAPES[1]))


@pytest.mark.parametrize("kind", ["group", "attentive batch", "representative spatial", "squeeze-excite", OWN])
def test_dynamic(kind):
    dynamic_twice(kind)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("kind", [*LAYERS, *FURTHER, OWN])
def test_dynamic_everywhere(kind, backend):
    if not fusednorm.backends()[backend].available:
        pytest.skip(f"{backend}: not here")
    with fusednorm.use_backend(backend):
        dynamic_twice(kind)


def test_network():
    """A whole network in one graph a mode, also back in the first; what a step does to it, and to its statistics."""
    torch._dynamo.reset()
    eager = network()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, backend=counter)
    for training in (True, False, True):
        eager.train(training), compiled.train(training)
        close(compiled, eager, torch.randn(4, 3, 8, 8))
    assert counter.frame_count == 2


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_network_through_inductor(dynamic):
    torch._dynamo.reset()
    eager = network()
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True, dynamic=dynamic)
    for training in (True, False):
        eager.train(training), compiled.train(training)
        for size in (8, 11, 6) if dynamic else (8,):
            close(compiled, eager, torch.randn(4, 3, size, 9))
