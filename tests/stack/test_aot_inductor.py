"""AOTInductor: a package of an exported network, which calls our operators, in this process and in a fresh one.

The package names the operators; who loads it must have imported fusednorm, which defines them.
"""

import subprocess
import sys

import pytest
import torch
from torch import nn

import fusednorm
from tests.stack.layers import KINDS, layer, network


def compiles():
    try:
        torch._inductor.cpp_builder.get_cpp_compiler()
    except torch._inductor.exc.InvalidCxxCompiler:
        return False
    return True


pytestmark = [
    pytest.mark.skipif(not compiles(), reason="AOTInductor needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore"),
]


def packaged(module, path, x):
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    return torch._inductor.aoti_compile_and_package(program, package_path=str(path / "model.pt2"))


FRESH = """
import sys, torch
{before}
x, y = torch.load(sys.argv[2])
assert torch.equal(torch._inductor.aoti_load_package(sys.argv[1])(x), y)
"""


def fresh(*arguments, before):
    command = [sys.executable, "-c", FRESH.format(before=before), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_package(tmp_path):
    """Another batch size, the eager bits; in a fresh process too, once fusednorm is imported."""
    eager = nn.Sequential(layer("attentive batch"), layer("normalization attention")).eval()
    path = packaged(eager, tmp_path, torch.randn(4, 8, 6, 5))
    x = torch.randn(7, 8, 6, 5)
    y = eager(x).detach()
    assert torch.equal(torch._inductor.aoti_load_package(path)(x), y)
    torch.save((x, y), tmp_path / "maps.pt")
    found = fresh(path, tmp_path / "maps.pt", before="import fusednorm")
    assert found.returncode == 0, found.stderr
    without = fresh(path, tmp_path / "maps.pt", before="")
    assert "Could not find schema for fusednorm::" in without.stderr


@pytest.mark.slow
def test_network(tmp_path):
    eager = network().eval()
    path = packaged(eager, tmp_path, torch.randn(4, 3, 8, 8))
    x = torch.randn(7, 3, 8, 8)
    torch.testing.assert_close(torch._inductor.aoti_load_package(path)(x), eager(x).detach(), atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_every_layer(tmp_path):
    """And on the backend "torch" a package that needs no fusednorm."""
    eager = nn.Sequential(*(layer(kind) for kind in KINDS)).eval()
    x = torch.randn(7, 8, 6, 5)
    y = eager(x).detach()
    for backend in ("cpu", "torch"):
        if not fusednorm.backends()[backend].available:
            continue
        with fusednorm.use_backend(backend):
            path = packaged(eager, tmp_path, torch.randn(4, 8, 6, 5))
        torch.testing.assert_close(torch._inductor.aoti_load_package(path)(x), y, atol=1e-4, rtol=1e-3)
    torch.save((x, torch._inductor.aoti_load_package(path)(x)), tmp_path / "maps.pt")
    found = fresh(path, tmp_path / "maps.pt", before="")
    assert found.returncode == 0, found.stderr
