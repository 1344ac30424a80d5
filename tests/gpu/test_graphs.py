"""CUDA graphs: a step captured once and replayed with other data gives the eager bits, running statistics included."""

import copy

import pytest
import torch

import fusednorm
from tests.cases import LAYERS, LAYOUTS
from tests.gpu.device import BACKENDS, gradients, layers, normal, same_bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(4, 8, 5, 3), (8, 64, 56, 56)], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_replay(backend, kind, shape, layout, dtype):
    eager, _ = layers(kind, 4, shape[1], act="relu")
    captured = copy.deepcopy(eager)
    state = copy.deepcopy(eager.state_dict())

    def maps():
        return [normal(*shape, layout=layout, dtype=dtype) for _ in range(3)]

    static = maps()
    with fusednorm.use_backend(backend):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                gradients(captured, *static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = gradients(captured, *static)
        captured.load_state_dict(state)  # the warm-up has moved the running statistics
        for _ in range(3):
            new = maps()
            for held, values in zip(static, new, strict=True):
                held.copy_(values)
            graph.replay()
            expected = gradients(eager, *new)
            assert same_bits(found, expected)
            assert same_bits(list(captured.buffers()), list(eager.buffers()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_make_graphed_callables(backend):
    """torch's own way to capture a module."""
    eager, _ = layers("attentive batch", 4, 8, act="relu")
    state = copy.deepcopy(eager.state_dict())
    samples = tuple(normal(4, 8, 5, 3).requires_grad_() for _ in range(2))
    with fusednorm.use_backend(backend):
        graphed = torch.cuda.make_graphed_callables(copy.deepcopy(eager), samples)
        graphed.load_state_dict(state)
        for _ in range(2):
            maps = [normal(4, 8, 5, 3) for _ in range(3)]
            assert same_bits(gradients(graphed, *maps), gradients(eager, *maps))
