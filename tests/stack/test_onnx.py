"""torch.onnx.export: plain ONNX operators, with nothing said; onnxruntime's results are the eager ones."""

import pytest
import torch
from torch import nn

import fusednorm
from tests.cases import FURTHER, pair
from tests.stack.layers import KINDS, OWN, layer, maps, network

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's own


def exported(module, path, *inputs):
    names = [f"x{i}" for i in range(len(inputs))]
    program = torch.onnx.export(
        module,
        inputs,
        dynamo=True,
        input_names=names,
        dynamic_shapes=tuple({0: "batch"} for _ in inputs),
        verbose=False,
    )
    program.save(path)
    domains = {node.domain for node in program.model.graph} | {f.domain for f in program.model.functions.values()}
    assert domains <= {"", "pkg.onnxscript.torch_lib", "pkg.onnxscript.torch_lib.common"}, domains
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *maps: torch.from_numpy(
        session.run(None, {name: t.numpy() for name, t in zip(names, maps, strict=True)})[0]
    )


class All(nn.Module):
    """Every layer side by side: the exporter takes seconds each time it is called."""

    def __init__(self, kinds, acts):
        super().__init__()
        self.layers = nn.ModuleList(layer(kind, act=act) for kind, act in zip(kinds, acts, strict=True))

    def forward(self, x, residual):
        return torch.stack([one(x, residual) for one in self.layers])


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_layers(tmp_path):
    """Every layer with a residual, with the activations in turn; another batch size than the exporter saw."""
    acts = (None, "relu", "relu6", "leaky_relu", "silu", "hardswish", "gelu")
    kinds = (*KINDS, OWN)
    eager = All(kinds, [acts[i % len(acts)] for i in range(len(kinds))]).eval()
    run = exported(eager, tmp_path / "layers.onnx", *maps())
    for shape in ((4, 8, 6, 5), (7, 8, 6, 5)):
        inputs = maps(*shape)
        assert_same(run(*inputs), eager(*inputs).detach())


def test_network(tmp_path):
    eager = network()
    for _ in range(2):
        eager(torch.randn(4, 3, 8, 8))
    eager.eval()
    run = exported(eager, tmp_path / "network.onnx", torch.randn(4, 3, 8, 8))
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(run(x), eager(x).detach(), atol=2e-5, rtol=1e-4)


def test_program(tmp_path):
    """An exported program has our operators, which ONNX has not: it is to be made on the backend "torch"."""
    eager, x = layer("attentive batch").eval(), maps()[0]
    with fusednorm.use_backend("torch"):
        program = torch.export.export(eager, (x,))
    found = torch.onnx.export(program, (x,), dynamo=True, verbose=False)
    found.save(tmp_path / "program.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "program.onnx", providers=["CPUExecutionProvider"])
    y = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(y), eager(x).detach(), atol=2e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FURTHER)
def test_further_layers(kind, tmp_path):
    eager = pair(kind, 4, 8)[0].eval()
    run = exported(eager, tmp_path / "layer.onnx", *maps())
    inputs = maps(7, 8, 6, 5)
    assert_same(run(*inputs), eager(*inputs).detach())
