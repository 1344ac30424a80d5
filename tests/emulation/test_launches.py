"""Which kernels serve a layer: at most three a direction, and one or two where a layer stays on the chip."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusednorm.engine.position_operators import JOINT_SCHEMAS

from .build import run_environment, unavailable

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=str(unavailable()))

# Reads cases from its arguments, writes what each launched, forward and backward, as JSON.
SCRIPT = """
import json, os, sys, torch, fusednorm
import tests.emulation.plugin
from fusednorm.engine import normalize
from tests.cases import channels_last, pair
from tests.engine.parts import RECALIBRATE, STANDARDIZE, join
log = os.environ["FUSEDNORM_EMULATION_LOG"]
def launched():
    with open(log) as file:
        lines = file.read().splitlines()
    open(log, "w").close()
    return lines
open(log, "w").close()
result = []
for kind, shape, layout, mode, act, dtype in json.loads(sys.argv[1]):
    x = torch.randn(shape).to(getattr(torch, dtype))
    x = (channels_last(x) if layout == "channels_last" else x).requires_grad_()
    if "+" in kind:  # a head of two parts
        head, tensors = join(*(parts[name] for parts, name in zip((STANDARDIZE, RECALIBRATE), kind.split("+"))))
        tensors = [t if t is None else t.float().requires_grad_() for t in tensors]
        layer = lambda x, residual: normalize(x, residual, head, act, tuple(tensors))[0]
    else:
        layer = pair(kind, 4, shape[1], act=act)[0].train(mode == "training")
    with fusednorm.use_backend("cuda"):
        y = layer(x, x.detach())
        forward = launched()
        y.backward(torch.ones_like(y))
        result.append([forward, launched()])
print(json.dumps(result))
"""


@dataclass(frozen=True)
class Launched:
    kernel: str
    cluster: int
    cooperative: bool


def read(line: str) -> Launched:
    name, _, _, _, cluster, cooperative = line.split("\t")
    kernel = name.partition("(anonymous namespace)::")[2] or name
    kernel = kernel.partition("<")[0].rpartition("::")[2].removesuffix("_kernel")
    return Launched(kernel, int(cluster), cooperative == "1")


Case = tuple[str, tuple[int, ...], str, str, str, str]  # layer, shape, layout, mode, act, type
Passes = tuple[list[Launched], list[Launched]]


def run(tmp_path: Path, cases: list[Case], **device: int) -> list[Passes]:
    """What forward and backward passes start, on an emulated device with these properties."""
    environment = {f"FUSEDNORM_EMULATION_{name.upper()}": str(value) for name, value in device.items()}
    environment["FUSEDNORM_EMULATION_LOG"] = str(tmp_path / "log")
    output = subprocess.check_output(
        [sys.executable, "-c", SCRIPT, json.dumps(cases)],
        env=run_environment(seed=0) | environment,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    return [
        ([read(line) for line in forward], [read(line) for line in backward])
        for forward, backward in json.loads(output.splitlines()[-1])
    ]


def names(launched: list[Launched]) -> list[str]:
    return [launch.kernel for launch in launched]


STREAMING = (["plane_moments", "head", "plane_affine"], ["plane_affine_reduce", "head_grad", "plane_affine_grad"])
LAYERS = ("batch", "group", "attentive batch", "attentive group")


def test_streaming(tmp_path: Path) -> None:
    """Without room to keep anything: three kernels a direction."""
    cases: list[Case] = [
        (kind, (4, 8, 30, 30), layout, "training", "relu", "float32")
        for kind in LAYERS
        for layout in ("nchw", "channels_last")
    ]
    for case, (forward, backward) in zip(cases, run(tmp_path, cases, shared=0), strict=True):
        assert (names(forward), names(backward)) == STREAMING, case


def test_any_head_is_one_launch(tmp_path: Path) -> None:
    """Together by all blocks where a sample looks at others, and not where it does not."""
    heads = {
        "representative mean+scaling": (False, False),
        "switchable+affine": (True, True),
        "switchable lg+squeeze-excite": (False, True),
        "batch+squeeze-excite": (True, True),
        "switchable+attentive": (True, True),
    }
    cases: list[Case] = [(kind, (300, 12, 3, 5), "nchw", "training", "relu", "float32") for kind in heads]
    with_any = [[name.replace("head", "any_head") for name in direction] for direction in STREAMING]
    for case, passes in zip(cases, run(tmp_path, cases), strict=True):
        for launched, expected, together in zip(passes, with_any, heads[case[0]], strict=True):
            assert names(launched) == expected, case
            assert any(launch.cluster > 1 or launch.cooperative for launch in launched) == together, case


def test_kept_on_the_chip(tmp_path: Path) -> None:
    """Batch statistics by all blocks together, groups and samples by a block each; nothing is read twice."""
    shape = (4, 8, 30, 30)
    cases: list[Case] = [
        ("attentive batch", shape, "nchw", "training", "relu", "float32"),
        ("group", shape, "nchw", "training", "relu", "bfloat16"),
        ("attentive group", shape, "channels_last", "training", "silu", "float32"),
        ("attentive batch", shape, "nchw", "evaluation", "relu", "float16"),
        ("batch", shape, "nchw", "evaluation", "relu", "float32"),
        ("batch", shape, "nchw", "training", "relu", "float64"),
    ]
    batch, *samples, evaluation, double = run(tmp_path, cases)
    assert batch == (
        [Launched("norm_forward_resident", 1, True)],
        [Launched("norm_backward_resident", 1, True)],
    )
    for forward, backward in samples:
        assert forward == [Launched("norm_forward_resident", 1, False)]
        assert names(backward) == ["norm_backward_resident", "head_grad_parameters"]
    forward, backward = evaluation
    assert names(forward) == ["head", "plane_affine"]  # two units as it is
    assert names(backward) == ["norm_backward_resident", "head_grad_parameters"]
    assert (names(double[0]), names(double[1])) == STREAMING


@pytest.mark.parametrize(("shared", "forwards", "backwards"), [(24000, 1, 2), (16000, 2, 4)])
def test_clusters(tmp_path: Path, shared: int, forwards: int, backwards: int) -> None:
    """A group of two channels, 14 KiB, twice that with dy: in one block or spread over a cluster."""
    case: Case = ("group", (4, 8, 42, 42), "nchw", "training", "relu", "float32")
    ((forward, backward),) = run(tmp_path, [case], shared=shared)
    assert forward == [Launched("norm_forward_resident", forwards, False)]
    assert backward[0] == Launched("norm_backward_resident", backwards, False)


def test_no_clusters_before_sm_90(tmp_path: Path) -> None:
    case: Case = ("group", (4, 8, 42, 42), "nchw", "training", "silu", "float32")
    ((forward, backward),) = run(tmp_path, [case], shared=10000, major=8)
    assert (names(forward), names(backward)) == STREAMING


def test_few_samples_are_streamed(tmp_path: Path) -> None:
    """One sample in one block would leave the other multiprocessors idle."""
    case: Case = ("group", (1, 4, 30, 30), "nchw", "training", "relu", "float32")
    ((forward, _),) = run(tmp_path, [case], multiprocessors=132)
    assert names(forward) == STREAMING[0]


CONTEXT_STREAMING = (
    ["plane_moments", "position_reduce", "plane_pool", "plane_affine"],
    ["plane_affine_reduce", "position_reduce", "plane_pool", "position_affine_grad"],
)


@pytest.mark.parametrize(
    ("device", "forwards", "backwards"),
    [({}, 1, 1), ({"shared": 24000}, 2, 4), ({"shared": 14000}, 8, 0), ({"shared": 24000, "major": 8}, 0, 0)],
)
def test_normalization_attention(tmp_path: Path, device: dict[str, int], forwards: int, backwards: int) -> None:
    """18 KB a sample, twice that with dy: one launch by a block or a cluster, or streamed (0)."""
    cases: list[Case] = [
        ("normalization attention", (4, 64, 12, 6), layout, "training", "relu", "float32")
        for layout in ("nchw", "channels_last")
    ]
    for forward, backward in run(tmp_path, cases, **device):
        for launched, name, blocks, streaming in zip(
            (forward, backward), ("forward", "backward"), (forwards, backwards), CONTEXT_STREAMING, strict=True
        ):
            if blocks:
                assert launched == [Launched(f"context_{name}", blocks, False)]
            else:
                assert [kernel for kernel in names(launched) if not kernel.startswith("merge")] == streaming


def test_normalization_attention_streams(tmp_path: Path) -> None:
    """In float64, after statistics of the batch, and where few samples would leave multiprocessors idle."""
    shape = (4, 8, 6, 6)
    cases: list[Case] = [
        ("normalization attention", shape, "nchw", "training", "relu", "float64"),
        ("batch normalization attention", shape, "nchw", "training", "relu", "float32"),
        ("normalization attention", shape, "nchw", "training", "relu", "float32"),
    ]
    for (forward, backward), many in zip(run(tmp_path, cases, multiprocessors=132), cases, strict=True):
        assert not any(kernel.startswith("context") for kernel in names(forward + backward)), many
    ((forward, backward),) = run(
        tmp_path, [("batch normalization attention", *cases[2][1:3], "evaluation", *cases[2][4:])]
    )
    assert (names(forward), names(backward)) == (["context_forward"], ["context_backward"])


JOINT = set(JOINT_SCHEMAS)
SPATIAL_STREAMING = (
    ["plane_moments", "position_moments", "plane_pool", "position_moments", "position_affine"],
    [*(f"position_affine_{name}" for name in ("spread", "reduce", "spread", "grad"))],
)
SPATIAL_KEPT = (
    ["plane_moments", "position_moments_pool", "position_moments_affine"],
    ["position_affine_spread_reduce", "position_affine_spread", "position_affine_grad"],
)


@pytest.mark.parametrize(
    ("device", "forwards", "backwards"),
    [({}, 1, 1), ({"shared": 24000}, 2, 4), ({"shared": 14000}, 8, 0), ({"shared": 24000, "major": 8}, 0, 0)],
)
def test_spatial_statistics(tmp_path: Path, device: dict[str, int], forwards: int, backwards: int) -> None:
    """18 KB a sample, twice that with dy: kept by a block or a cluster from one kernel to the next, or streamed (0)."""
    cases: list[Case] = [
        ("representative spatial", (4, 64, 12, 6), layout, "training", "relu", "float32")
        for layout in ("nchw", "channels_last")
    ]
    for passes in run(tmp_path, cases, **device):
        for launched, blocks, streaming, kept in zip(
            passes, (forwards, backwards), SPATIAL_STREAMING, SPATIAL_KEPT, strict=True
        ):
            found = [kernel for kernel in names(launched) if not kernel.startswith("merge")]
            assert found == (kept if blocks else streaming)
            clusters = [launch.cluster for launch in launched if launch.kernel in JOINT]
            assert set(clusters) == ({blocks} if blocks else set())


def test_spatial_statistics_stream(tmp_path: Path) -> None:
    """In float64, and where few samples would leave multiprocessors idle."""
    cases: list[Case] = [
        ("representative spatial", (4, 8, 6, 6), "nchw", "training", "relu", dtype) for dtype in ("float64", "float32")
    ]
    for forward, backward in run(tmp_path, cases, multiprocessors=132):
        assert not JOINT & set(names(forward + backward))
