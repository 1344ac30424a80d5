"""torch.compile sees one graph, forward and backward, and the compiled layer does what the eager one does."""

import copy
import itertools

import pytest
import torch

import fusednorm
from tests.cases import ACTS, BACKENDS, FAMILIES, FURTHER, LAYERS, LAYOUTS, OVER_BATCH, laid_out, pair


def step(layer, x, residual):
    x, residual = x.detach().requires_grad_(), residual.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x, residual)
    y.square().sum().backward()
    return [y, x.grad, residual.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


def compiled_and_eager(backend, eager, x, residual, modes=(True,)):
    """Compare a step of the layer, compiled and eager, in some modes; gives the numbers of graphs compiled for each."""
    from torch._dynamo.backends.common import aot_autograd

    torch._dynamo.reset()
    compiled, graphs, numbers = copy.deepcopy(eager), [], []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph

    with fusednorm.use_backend(backend):
        function = torch.compile(
            compiled, fullgraph=True, backend=aot_autograd(fw_compiler=counting, bw_compiler=counting)
        )
        for training in modes:
            eager.train(training), compiled.train(training)
            graphs.clear()
            ours, theirs = step(function, x, residual), step(eager, x, residual)
            numbers.append(len(graphs))
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b)
            assert ours[0].stride() == theirs[0].stride()
    return numbers


@pytest.mark.parametrize("act", ["relu", "silu", None])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_graph(backend, kind, layout, act):
    eager, _ = pair(kind, 4, 8, act=act)
    x, residual = (laid_out(torch.randn(4, 8, 5, 3), layout) for _ in range(2))
    again = 2 if "batch" in kind else 0  # groups know no modes (with A1): their graphs are still good
    numbers = compiled_and_eager(backend, eager, x, residual, (True, False))
    assert numbers == [2, again], "one graph forward, one backward"


# Seconds each: one of each family on the backend that serves it, the others in `make test-all`.
COMPILED = [
    pytest.param(
        *(case := (backend, kind, LAYOUTS[i % 2], ACTS[1 + i % 6])),
        marks=[] if backend == "cpu" and kind in FAMILIES else pytest.mark.slow,
        id=" ".join(case),
    )
    for backend, (i, kind) in itertools.product(BACKENDS, enumerate(FURTHER))
    if backend != "triton" or kind in FAMILIES
]


@pytest.mark.parametrize(("backend", "kind", "layout", "act"), COMPILED)
def test_further_layers(backend, kind, layout, act):
    eager, _ = pair(kind, 4, 8, act=act)
    x, residual = (laid_out(torch.randn(4, 8, 5, 3), layout) for _ in range(2))
    again = 2 if kind in OVER_BATCH else 0
    assert compiled_and_eager(backend, eager, x, residual, (True, False)) == [2, again]


@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor(dynamic):
    """Through the whole compiler, once with static and once with dynamic shapes."""
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
    except torch._inductor.exc.InvalidCxxCompiler:
        pytest.skip("Inductor needs a C++ compiler")
    torch._dynamo.reset()
    eager, _ = pair("attentive batch", 4, 8, act="relu")
    compiled = copy.deepcopy(eager)
    function = torch.compile(compiled, fullgraph=True, dynamic=dynamic)
    for size in (5, 6, 7) if dynamic else (5,):
        x, residual = torch.randn(4, 8, size, 3), torch.randn(4, 8, size, 3)
        for a, b in zip(step(function, x, residual), step(eager, x, residual), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_autocast():
    """bfloat16 maps from an autocast convolution; parameters, statistics and the head stay float32."""
    layer, _ = pair("attentive batch", 4, 8, act="relu")
    conv = torch.nn.Conv2d(3, 8, 3)
    x = torch.randn(4, 3, 9, 9)
    results = {}
    for backend in BACKENDS:
        with fusednorm.use_backend(backend), torch.autocast("cpu", torch.bfloat16):
            z = conv(x)
            y = copy.deepcopy(layer)(z)
        assert y.dtype == torch.bfloat16
        results[backend] = y
    exact = copy.deepcopy(layer).double()(z.double())
    for backend, y in results.items():
        error = (y.double() - exact).abs().max()
        assert error <= exact.abs().max() * 2**-8, backend  # one rounding to bfloat16
