"""torch.export: fused operators in evaluation, plain PyTorch operations in training; saved and loaded."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.export import Dim

import fusednorm
from tests.stack.layers import KINDS, OWN, layer, maps, network, step

BOTH = pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])


def exported(module, *inputs, strict=False):
    batch = Dim("batch")
    return torch.export.export(module, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=strict)


def operators(program):
    """What a program calls, in its subgraphs too."""
    graphs = [m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    return {str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"}


def through_a_file(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


@BOTH
@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_evaluation(kind, strict):
    """Saved and loaded, with another batch size, the eager bits; of our operators where a native backend serves."""
    eager = layer(kind).eval()
    program = through_a_file(exported(eager, *maps(), strict=strict))
    inputs = maps(7, 8, 6, 5)
    assert torch.equal(program.module()(*inputs), eager(*inputs))
    if fusednorm.backends()["cpu"].available:
        assert any(name.startswith("fusednorm.") for name in operators(program))


def test_evaluation_has_no_gradient():
    """A program exported in evaluation says so when it is asked for one."""
    if not fusednorm.backends()["cpu"].available:
        pytest.skip("no native kernels")
    program = exported(layer("attentive batch").eval(), *maps())
    x, residual = (t.requires_grad_() for t in maps())
    y = program.module()(x, residual)
    with pytest.warns(UserWarning, match="autograd kernel was not registered"):
        y.sum().backward()
    assert x.grad is None


def standardized(mean, var):
    scale = torch.rsqrt(var + 1e-5)
    return scale, -mean * scale


@pytest.mark.parametrize("kind", [*KINDS, OWN, "filter response", "function"])
def test_training(kind):
    """Exported in training mode a program can be trained: gradients and running statistics are the eager ones'."""
    eager = fusednorm.FusedNorm(standardized, "silu") if kind == "function" else layer(kind)
    program = through_a_file(exported(copy.deepcopy(eager), *maps()))
    assert not any(name.startswith("fusednorm.") for name in operators(program))
    module, inputs = program.module(), maps(7, 8, 6, 5)
    names = [name for name, _ in eager.named_parameters()]
    assert [name for name, _ in module.named_parameters()] == names
    for a, b in zip(step(module, *inputs), step(eager, *inputs), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("strict", [pytest.param(True, id="strict", marks=pytest.mark.slow), False])
def test_network(strict):
    eager, x = network().double(), torch.randn(4, 3, 8, 8).double()
    eager(x)
    program = exported(eager.eval(), x, strict=strict)
    x = torch.randn(5, 3, 8, 8).double()
    torch.testing.assert_close(program.module()(x), eager(x))
    training = exported(copy.deepcopy(eager).train(), x, strict=strict).module()
    eager.train()
    for a, b in zip(step(training, x), step(eager, x), strict=True):
        torch.testing.assert_close(a, b)


def test_both_over_positions():
    """A spatial center before NormalizationAttention: two layers, both plain."""
    part, then = fusednorm.standardizations.Representative, fusednorm.recalibrations.NormalizationAttention
    eager = fusednorm.RecalibratedNorm(part(8, center="spatial_mean"), then(8), act="relu")
    program = exported(eager, *maps())
    assert not any(name.startswith("fusednorm.") for name in operators(program))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_script(kind):
    """TorchScript's tracer gets plain operations, also of a layer whose calls have been recorded."""
    eager = layer(kind).eval()
    for _ in range(2):
        eager(*maps())
    traced = torch.jit.trace(nn.Sequential(eager), maps()[0])
    x = torch.randn(4, 8, 6, 5)
    torch.testing.assert_close(traced(x), eager(x), atol=2e-5, rtol=1e-4)
    assert "fusednorm::" not in str(traced.inlined_graph)
