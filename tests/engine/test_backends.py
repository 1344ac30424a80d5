"""Which backends there are, why, and how one is chosen."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import fusednorm
from fusednorm.engine.backends import assumed_constant, choose


def test_what_there_is():
    found = fusednorm.backends()
    assert set(found) == {"cpu", "cuda", "triton", "torch"}
    assert found["torch"].available
    assert all(backend.reason for backend in found.values())


def test_default():
    expected = "cpu" if fusednorm.backends()["cpu"].available else "torch"
    assert choose(torch.ones(1, 1)) == expected
    assert choose(torch.ones(1, 1, device="meta")) == "torch"


def test_import_leaves_the_compiler_alone():
    loaded = "'torch._dynamo' in sys.modules"
    code = f"import sys, torch; before = {loaded}; import fusednorm; print(before, {loaded})"
    before, after = run(code).stdout.split()
    assert before == after


def test_constants_are_marked_as_torch_marks_them():
    def ours():
        pass

    def theirs():
        pass

    assert vars(assumed_constant(ours)) == vars(torch.compiler.assume_constant_result(theirs)) != {}


def test_use_backend_nests_and_restores():
    before = choose(torch.ones(1, 1))
    with fusednorm.use_backend("torch"):
        assert choose(torch.ones(1, 1)) == "torch"
        with pytest.raises(ZeroDivisionError), fusednorm.use_backend("torch"):
            raise ZeroDivisionError
        assert choose(torch.ones(1, 1)) == "torch"
    assert choose(torch.ones(1, 1)) == before


@pytest.mark.parametrize(
    ("cuda", "kernels", "triton", "expected"),
    [
        (True, True, True, "cuda"),
        (True, False, True, "triton"),  # built for other GPUs
        (False, True, True, "triton"),
        (True, False, False, "torch"),
    ],
)
def test_default_on_a_gpu(monkeypatch, cuda, kernels, triton, expected):
    module = sys.modules["fusednorm.engine.backends"]
    for name, available in (("cuda", cuda), ("triton", triton)):
        monkeypatch.setitem(module._backends, name, module.Backend(name, available, "as the test says"))
    monkeypatch.setitem(module._kernels_for, 0, kernels)
    assert choose(SimpleNamespace(device=torch.device("cuda", 0))) == expected


def test_unknown():
    with (
        pytest.raises(ValueError, match="use_backend: expected one of 'cpu', 'cuda', 'triton', 'torch', got 'cuda13'"),
        fusednorm.use_backend("cuda13"),
    ):
        pass


@pytest.mark.skipif(not fusednorm.backends()["cpu"].available, reason="no native extension")
def test_device_that_does_not_fit():
    layer = fusednorm.BatchNorm2d(3, device="meta")
    with fusednorm.use_backend("cpu"), pytest.raises(ValueError, match=r"'cpu' takes tensors on 'cpu' devices.*meta"):
        layer(torch.ones(2, 3, 4, 4, device="meta"))


def test_meta():
    """Shapes flow through on the meta device."""
    layer = fusednorm.AttentiveBatchNorm2d(8, 3, act="relu", device="meta")
    x = torch.ones(2, 8, 4, 4, device="meta", requires_grad=True)
    y = layer(x, x)
    y.sum().backward()
    assert y.shape == x.grad.shape == x.shape


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )


CHOICE = "import torch, fusednorm; from fusednorm.engine.backends import choose; print(choose(torch.ones(1, 1)))"


def test_environment_variable():
    assert run(CHOICE, FUSEDNORM_BACKEND="torch").stdout.strip() == "torch"
    assert "FUSEDNORM_BACKEND: expected one of" in run(CHOICE, FUSEDNORM_BACKEND="fast").stderr


def test_triton_off_is_said_why():
    code = "import fusednorm; b = fusednorm.backends()['triton']; print(b.available, b.reason)"
    result = run(code, TRITON_INTERPRET="0")
    if not torch.cuda.is_available():
        assert result.stdout.startswith("False "), result.stderr
        assert len(result.stdout) > 15


@pytest.mark.skipif(not fusednorm.backends()["cpu"].available, reason="no native extension")
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_instruction_sets(isa):
    """The kernels for other processors through the tests that look closest, with the stores of maps beyond the caches.

    Those serve aligned runs alone; the others here are stored as usual.
    """
    expected = run(
        "import fusednorm; print(fusednorm._C.build_info()['cpu_isa'])", FUSEDNORM_CPU_ISA=isa
    ).stdout.strip()
    if expected != isa:
        pytest.skip(f"this processor has no {isa}")
    tests = [
        "tests/modules/test_golden.py",
        "tests/modules/test_against_reference.py",
        "tests/engine/test_operators.py",
        "tests/engine/test_small_planes.py",
        "tests/engine/test_conversions.py",
        "tests/engine/test_position_operators.py",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-k",
        "cpu and not opcheck and not further",
        *tests,
    ]
    environment = os.environ | {"FUSEDNORM_CPU_ISA": isa, "FUSEDNORM_STREAM_BYTES": "0"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:]
    assert " passed" in result.stdout
