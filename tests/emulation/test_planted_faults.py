"""Faults planted in our own kernels: the emulation's tests must not pass with any of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .build import run_environment, unavailable
from .library import CSRC

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(unavailable()), reason=str(unavailable()))]


@dataclass(frozen=True)
class Fault:
    unit: str
    header: str
    right: str
    wrong: str
    seen: str  # in what the tests print
    layer: str = "batch"


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
        "normalization attention",
    ),
    "head without its sync": Fault(
        "any_head.cu",
        "any_forward.cuh",
        "  team.sync();\n  if (k.recalibrate == Recalibrate::squeeze_excite)",
        "  if (k.recalibrate == Recalibrate::squeeze_excite)",
        "AssertionError",
        "switchable",
    ),
}

# In float64, which no other unit has a kernel for: they keep the sound header.
TEST = """
import torch, fusednorm
from tests.cases import pair

def test():
    x = torch.randn(2, 3, 41, 41, dtype=torch.float64)
    fused, plain = (layer.double() for layer in pair("LAYER", 4, 3))
    with fusednorm.use_backend("cuda"):
        torch.testing.assert_close(fused(x), plain(x))
"""


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
    test.write_text(TEST.replace("LAYER", fault.layer))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-qs", "-p", "tests.emulation.plugin", "-p", "no:cacheprovider", str(test)],
        env=run_environment(seed=0) | {"FUSEDNORM_EMULATION_UNIT": str(csrc / "cuda" / fault.unit)},
        cwd=CSRC.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert fault.seen in result.stdout + result.stderr
    assert (result.returncode == 0) == (name == "none")
