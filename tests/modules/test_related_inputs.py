"""Gradients with create_graph where the layer's inputs depend on each other, and other ways of differentiating."""

import pytest
import torch

import fusednorm
from tests.cases import BACKENDS, OVER_BATCH, everywhere, pair


def networks(layer, conv):
    yield "twice", lambda x: layer(layer(x))
    yield "residual is x", lambda x: layer(x, x)
    yield "a residual block", lambda x: layer(conv(x), x)
    yield "both from one", lambda x: layer(2 * x, x.sin())


@pytest.mark.parametrize("act", ["relu", "silu", None])
@pytest.mark.parametrize(("backend", "kind"), everywhere())
def test_first_order_with_create_graph(backend, kind, act):
    """The same gradients with and without create_graph, and the reference's."""
    fused, plain = (layer.double() for layer in pair(kind, 4, 4, act=act))
    conv = torch.nn.Conv2d(4, 4, 3, padding=1).double()
    x, dy = (torch.randn(4, 4, 5, 3, dtype=torch.float64) for _ in range(2))

    def gradients(layer, network, create_graph):
        a = x.clone().requires_grad_()
        return torch.autograd.grad(network(a), [a, *layer.parameters()], dy, create_graph=create_graph)

    for (name, ours), (_, theirs) in zip(networks(fused, conv), networks(plain, conv), strict=True):
        with fusednorm.use_backend(backend):
            found = [gradients(fused, ours, create_graph) for create_graph in (False, True)]
        expected = gradients(plain, theirs, False)
        for first, graphed, exact in zip(*found, expected, strict=True):
            torch.testing.assert_close(first, exact, msg=name)
            torch.testing.assert_close(graphed, exact, msg=name)


@pytest.mark.parametrize("act", ["relu", "silu", None])
@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_residual_with_create_graph(backend, act):
    layer = pair("attentive batch", 4, 4, act=act)[0].requires_grad_(False)
    x, residual = torch.randn(3, 4, 5, 3), torch.randn(3, 4, 5, 3, requires_grad=True)
    with fusednorm.use_backend(backend):
        (plain,) = torch.autograd.grad(layer(x, residual).sum(), residual)
        (graphed,) = torch.autograd.grad(layer(x, residual).sum(), residual, create_graph=True)
    torch.testing.assert_close(graphed, plain)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "trainable"])
@pytest.mark.parametrize(("backend", "kind"), everywhere())
def test_forward_mode(backend, kind, frozen, training):
    """Jacobian-vector products, by torch.func and by dual numbers, frozen parameters or not."""
    tracks = "batch" in kind or kind in OVER_BATCH
    options = {"track_running_stats": False} if training and tracks else {}  # torch.func lets no buffer change
    fused, plain = (layer.double() for layer in pair(kind, 4, 4, act="silu", **options))
    for layer in (fused, plain):
        layer.train(training)
        layer.requires_grad_(not frozen)
    x, tangent = (torch.randn(4, 4, 5, 3, dtype=torch.float64) for _ in range(2))
    expected = torch.func.jvp(plain, (x,), (tangent,))[1]
    assert expected.abs().sum() > 0
    with fusednorm.use_backend(backend):
        torch.testing.assert_close(torch.func.jvp(fused, (x,), (tangent,))[1], expected)
        with torch.autograd.forward_ad.dual_level():
            dual = fused(torch.autograd.forward_ad.make_dual(x, tangent))
            torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, expected)


@pytest.mark.parametrize("kind", ["batch", "attentive batch", "representative spatial", "normalization attention"])
@pytest.mark.parametrize("backend", [name for name in ("cpu", "torch") if name in BACKENDS])
def test_transforms_inside_what_is_compiled(backend, kind):
    """The compiler traces through torch.func's transforms; they go through plain PyTorch there too."""
    torch._dynamo.reset()
    layer = pair(kind, 4, 4, act="silu")[0].double().eval().requires_grad_(False)
    x, tangent = (torch.randn(4, 4, 5, 3, dtype=torch.float64) for _ in range(2))

    def gradient(x):
        return torch.func.grad(lambda t: layer(t).square().sum())(x)

    def product(x):
        return torch.func.jvp(layer, (x,), (tangent,))[1]

    with fusednorm.use_backend(backend):
        for transformed in (gradient, product):
            expected = transformed(x)
            assert expected.abs().sum() > 0
            found = torch.compile(transformed, fullgraph=True, backend="aot_eager")(x)
            torch.testing.assert_close(found, expected)


def test_gradients_per_sample():
    """vmap over grad, in evaluation."""
    layer = pair("attentive batch", 4, 4, act="relu")[0].eval()
    parameters, buffers = dict(layer.named_parameters()), dict(layer.named_buffers())
    x = torch.randn(5, 4, 3, 3)

    def loss(parameters, sample):
        return torch.func.functional_call(layer, (parameters, buffers), (sample[None],)).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))({k: v.detach() for k, v in parameters.items()}, x)
    for i, sample in enumerate(x):
        alone = torch.autograd.grad(layer(sample[None]).square().sum(), list(parameters.values()))
        for (name, stacked), single in zip(together.items(), alone, strict=True):
            torch.testing.assert_close(stacked[i], single, msg=name, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_create_graph_under_autocast(backend):
    """The head stays in float32 on the way through plain PyTorch, too."""
    layer = pair("attentive batch", 4, 8)[0]
    x = torch.randn(6, 8, 5, 3)
    with fusednorm.use_backend(backend), torch.autocast("cpu", torch.bfloat16):
        a = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(layer(a).square().sum(), a)
        (graphed,) = torch.autograd.grad(layer(a).square().sum(), a, create_graph=True)
    torch.testing.assert_close(graphed, first, atol=1e-5, rtol=1e-4)
