"""torch.compile sees one graph, forward and backward, and the compiled layer does what the eager one does."""

import copy

import pytest
import torch

import fusednorm
from tests.cases import BACKENDS, LAYERS, channels_last, pair


def step(layer, x, residual):
    x, residual = x.detach().requires_grad_(), residual.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x, residual)
    y.square().sum().backward()
    return [y, x.grad, residual.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


@pytest.mark.parametrize("act", ["relu", "silu", None])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_graph(backend, kind, layout, act):
    torch._dynamo.reset()
    eager, _ = pair(kind, 4, 8, act=act)
    compiled = copy.deepcopy(eager)
    x, residual = torch.randn(4, 8, 5, 3), torch.randn(4, 8, 5, 3)
    if layout == "channels_last":
        x, residual = channels_last(x), channels_last(residual)
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph

    from torch._dynamo.backends.common import aot_autograd

    with fusednorm.use_backend(backend):
        function = torch.compile(
            compiled, fullgraph=True, backend=aot_autograd(fw_compiler=counting, bw_compiler=counting)
        )
        for training in (True, False):
            eager.train(training), compiled.train(training)
            graphs.clear()
            ours, theirs = step(function, x, residual), step(eager, x, residual)
            again = training or "batch" in kind  # groups know no modes (with A1): their graphs are still good
            assert len(graphs) == (2 if again else 0), "one graph forward, one backward"
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b)
            assert ours[0].stride() == theirs[0].stride()


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
