"""Faults planted in our own kernels: the emulation's tests must not pass with any of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .build import run_environment, unavailable
from .library import CSRC

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(unavailable()), reason=str(unavailable()))]


# In float64, which no other unit has a kernel for: they keep the sound header.
TEST = """
import torch, fusednorm
from tests.cases import pair

def test():
    torch.manual_seed(1)
    x = torch.randn(2, 3, 41, 41, dtype=torch.float64)
    fused, plain = (layer.double() for layer in pair("batch", 4, 3))
    with fusednorm.use_backend("cuda"):
        torch.testing.assert_close(fused(x), plain(x))
"""

STEP = """
import torch, fusednorm
from tests.cases import Contender, channels_last, pair

def test():
    torch.manual_seed(1)
    x = {x}
    fused, plain = pair({layer})
    with fusednorm.use_backend("cuda"):
        ours = Contender(fused, x, {residual}, x.flip(0)).tensors
    for name, expected in Contender(plain, x, {residual}, x.flip(0)).tensors.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-3, atol=1e-4)
"""

# 10 KB a sample, in a cluster of two blocks forward, of four backward.
PLANES = {"x": "torch.randn(4, 32, 9, 9)", "residual": "None"}
CONTEXT = STEP.format(layer='"normalization attention", 4, 32', **PLANES)
SPATIAL = STEP.format(layer='"representative spatial", 4, 32', **PLANES)
CLUSTER = {"FUSEDNORM_EMULATION_SHARED": "18000"}

# 21 channels, 16 of them a block's and 5 another's: rows of a channels_last map begin anywhere, and are read and
# written beside what is kept.
ROWS = {"x": "channels_last(torch.randn(4, 21, 7, 9))", "residual": "x.flip(1)"}
CONTEXT_ROWS = STEP.format(layer='"normalization attention", 4, 21, act="silu"', **ROWS)
SPATIAL_ROWS = STEP.format(layer='"representative spatial", 4, 21, act="silu"', **ROWS)
ROWS_CLUSTER = {"FUSEDNORM_EMULATION_SHARED": "19500"}


@dataclass(frozen=True)
class Fault:
    unit: str
    header: str
    right: str
    wrong: str
    seen: str  # in what the tests print
    test: str = TEST
    device: dict[str, str] = field(default_factory=dict)  # what the emulated one is


FAULTS = {
    "none": Fault("plane_moments.cu", "plane_moments.cuh", "", "", "1 passed"),
    "missing barrier": Fault(
        "plane_moments.cu",
        "lanes.cuh",
        "entries[warp * w.columns + column] = mine;\n  __syncthreads();",
        "entries[warp * w.columns + column] = mine;",
        "AssertionError",
    ),
    "out-of-bounds store": Fault(
        "plane_affine.cu",
        "plane_affine.cuh",
        "item.at(ty, k.y, shape, step)",
        "item.at(ty, k.y, shape, step + 1)",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "wrong shuffle mask": Fault(
        "plane_moments.cu",
        "plane_moments.cuh",
        "__shfl_xor_sync(0xffffffffu, count",
        "__shfl_xor_sync(0x0000ffffu, count",
        "mask",
    ),
    "positions off by one": Fault(
        "position_reduce.cu",
        "position_walk.cuh",
        "keep<A>(parts, tile.segment, j / V, row + j % V, mine.value[j]);",
        "keep<A>(parts, tile.segment, j / V, row + 1 + j % V, mine.value[j]);",
        "AddressSanitizer: heap-buffer-overflow",
        TEST.replace("batch", "normalization attention"),
    ),
    "head without its sync": Fault(
        "any_head.cu",
        "any_forward.cuh",
        "  team.sync();\n  if (k.recalibrate == Recalibrate::squeeze_excite)",
        "  if (k.recalibrate == Recalibrate::squeeze_excite)",
        "AssertionError",
        TEST.replace("batch", "switchable"),
    ),
    "none in a cluster": Fault("context_forward.cu", "context_forward.cu", "", "", "1 passed", CONTEXT, CLUSTER),
    "missing barrier of a cluster": Fault(
        "context_forward.cu",
        "context_forward.cu",
        "  team.sync();\n  const auto gates",
        "  __syncthreads();\n  const auto gates",
        "AssertionError",
        CONTEXT,
        CLUSTER,
    ),
    "missing barrier of a cluster, backward": Fault(
        "context_backward.cu",
        "context_backward.cu",
        "    team.sync();\n    sums[0] = sums[1] = 0;",
        "    __syncthreads();\n    sums[0] = sums[1] = 0;",
        "AssertionError",
        CONTEXT,
        CLUSTER,
    ),
    "none where rows begin anywhere": Fault(
        "context_backward.cu", "sample.cuh", "", "", "1 passed", CONTEXT_ROWS, ROWS_CLUSTER
    ),
    "16 bytes where rows begin anywhere": Fault(
        "context_backward.cu", "sample.cuh", "if (!steps) {", "if (false) {", "misaligned", CONTEXT_ROWS, ROWS_CLUSTER
    ),
    "none where g is written anywhere": Fault(
        "position_affine_spread_reduce.cu", "sample.cuh", "", "", "1 passed", SPATIAL_ROWS, ROWS_CLUSTER
    ),
    "16 bytes where g is written anywhere": Fault(
        "position_affine_spread_reduce.cu",
        "sample.cuh",
        "if (!steps) {\n        detail::Words<T> words;\n        words.all",
        "if (false) {\n        detail::Words<T> words;\n        words.all",
        "misaligned",
        SPATIAL_ROWS,
        ROWS_CLUSTER,
    ),
    "none of spatial statistics": Fault(
        "position_moments_affine.cu", "position_kept.cuh", "", "", "1 passed", SPATIAL, CLUSTER
    ),
    "missing barrier between blocks' moments": Fault(
        "position_moments_affine.cu",
        "position_kept.cuh",
        "own[S + s] = double(squares[s]);\n    team.sync();",
        "own[S + s] = double(squares[s]);",
        "AssertionError",
        SPATIAL,
        CLUSTER,
    ),
    "missing barrier before du's slopes are read": Fault(
        "position_affine_spread_reduce.cu",
        "position_affine_spread_reduce.cu",
        "k.pass.rows[kSlope])[position];\n  }\n  __syncthreads();",
        "k.pass.rows[kSlope])[position];\n  }",
        "AssertionError",
        SPATIAL,
        CLUSTER,
    ),
    "missing barrier after what is kept was read": Fault(
        "context_backward.cu",
        "context_backward.cu",
        "here.copy(k, k.dy, here.g);\n  __syncthreads();",
        "here.copy(k, k.dy, here.g);",
        "AssertionError",
        CONTEXT,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    csrc = tmp_path / "csrc"
    shutil.copytree(CSRC, csrc)
    file = csrc / "cuda" / fault.header
    text = file.read_text()
    assert fault.right in text
    file.write_text(text.replace(fault.right, fault.wrong, 1))
    test = tmp_path / "test_one.py"
    test.write_text(fault.test)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-qs", "-p", "tests.emulation.plugin", "-p", "no:cacheprovider", str(test)],
        env=run_environment(seed=0) | fault.device | {"FUSEDNORM_EMULATION_UNIT": str(csrc / "cuda" / fault.unit)},
        cwd=CSRC.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert fault.seen in result.stdout + result.stderr
    assert (result.returncode == 0) == (fault.right == fault.wrong)
