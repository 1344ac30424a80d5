"""The emulated CUDA itself: what it computes, and that it finds faults planted in kernels whose twins are right."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

from .build import HERE, ROOT, build, run_environment, unavailable

pytestmark = [pytest.mark.slow, pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))]

SEEDS = range(5)


def program(name: str, fault: int = 0) -> Path:
    output = ROOT / "build" / "emulation" / "samples" / f"{name}-{fault}"
    return build([HERE / "kernels" / f"{name}.cu"], output, extra_flags=[f"-DFAULT={fault}"])


def run(path: Path, *arguments: str, seed: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run([path, *arguments], env=run_environment(seed), capture_output=True, text=True, timeout=60)


def output_of(name: str, *arguments: str, seed: int = 0) -> str:
    result = run(program(name), *arguments, seed=seed)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["reduction", "memory", "deadlock", "grid", "cluster", "dependency"])
def test_right(name: str, seed: int) -> None:
    assert output_of(name, seed=seed) == "right\n"


# A kernel with a fault, and what is said about it.
DIAGNOSED = [
    ("memory", 1, "AddressSanitizer: heap-buffer-overflow"),
    ("memory", 2, "AddressSanitizer: use-after-poison"),
    ("memory", 3, "misaligned address"),
    ("memory", 4, "AddressSanitizer: heap-buffer-overflow"),
    ("warp", 1, "of the same warp"),
    ("warp", 2, "which the mask does not name"),
    ("deadlock", 1, "for lane 3, which waits at __syncthreads()"),
    ("deadlock", 2, "for lane 3, which has exited"),
    ("deadlock", 3, "for what no thread will do"),
    ("grid", 2, "waits at this_grid().sync()"),
    ("cluster", 1, "AddressSanitizer: use-after-poison"),
    ("cluster", 2, "AddressSanitizer: use-after-poison"),
    ("dependency", 1, "block (1, 0, 0), thread (0, 0, 0): the block ended without cudaGridDependencySynchronize()"),
]


@pytest.mark.parametrize(("name", "fault", "message"), DIAGNOSED)
def test_diagnosed(name: str, fault: int, message: str) -> None:
    result = run(program(name, fault))
    assert result.returncode != 0
    assert message in result.stderr
    if "Sanitizer" not in message and "misaligned" not in message:
        assert "emulation: kernel " in result.stderr


@pytest.mark.parametrize(("name", "fault"), [("reduction", 1), ("reduction", 2), ("grid", 1)])
def test_missing_barriers_make_results_wrong(name: str, fault: int) -> None:
    assert "wrong\n" in [run(program(name, fault), seed=seed).stdout for seed in SEEDS]


def test_no_atomics_on_floats() -> None:
    with pytest.raises(RuntimeError, match="no matching function for call to 'atomicAdd"):
        program("atomics", 1)


def test_atomics() -> None:
    n = 960
    assert output_of("atomics") == f"{n * (n - 1) // 2} {n - 1} {2**32 - 1} 0 1 7 {n}\n"


def _shuffled(lane: int, to: int, width: int) -> int:
    """The source lane, if it is one of the lane's group of `width`."""
    return to if to // width == lane // width else lane


def test_warp_functions() -> None:
    lanes = range(32)
    expected = [
        [sum(1 << i for i in range(0, 32, 3))] * 32,
        [1] * 32,
        [0] * 32,
        [5] * 32,
        [lane // 8 * 8 + 1 for lane in lanes],
        [lane ^ 3 for lane in lanes],
        # A lane of an earlier group may be read, one of a later may not.
        [(lane ^ 12 if (lane ^ 12) // 8 <= lane // 8 else lane) * 10**12 for lane in lanes],
        [2 * _shuffled(lane, lane - 3, 16) + 1 for lane in lanes],
        [4 * _shuffled(lane, lane + 5, 8) + 1 for lane in lanes],
        [0 if lane % 2 else 0b01010101 for lane in lanes],
        [lane.bit_count() + 100 * (lane & -lane).bit_length() + 10000 * (32 - lane.bit_length()) for lane in lanes],
        [int(f"{lane:032b}"[::-1], 2) for lane in lanes],
    ]
    assert [[int(word) for word in row.split()] for row in output_of("warp").splitlines()] == expected


def test_launches_that_a_driver_refuses() -> None:
    assert output_of("launch_errors").splitlines() == [
        "1024 threads: cudaSuccess",
        "1025 threads: cudaErrorInvalidConfiguration",
        "no threads: cudaErrorInvalidConfiguration",
        "no blocks: cudaErrorInvalidConfiguration",
        "65536 rows: cudaErrorInvalidConfiguration",
        "48 KiB: cudaSuccess",
        "more than 48 KiB: cudaErrorInvalidValue",
        "227 KiB, asked for: cudaSuccess",
        "more than 227 KiB: cudaErrorInvalidValue",
        "asking for more: cudaErrorInvalidValue",
        "cluster of 4: cudaSuccess",
        "cluster of 3 in 8: cudaErrorInvalidClusterSize",
        "cluster of 16: cudaErrorInvalidClusterSize",
        "2 blocks of 512 threads and 100 KiB",
        "cooperative, as many as fit: cudaSuccess",
        "cooperative, one more: cudaErrorCooperativeLaunchTooLarge",
    ]


def _bits(x: Tensor) -> Tensor:
    """The bits, and one pattern for all NaNs."""
    return torch.where(x.isnan(), -1, x.view({2: torch.int16, 4: torch.int32}[x.element_size()]))


def test_conversions(tmp_path: Path) -> None:
    """Bit by bit as torch's: from all 16-bit numbers, and to them from all kinds of floats, ties among them."""
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    patterns = patterns[torch.arange(2**16) - 2**15]  # 0 comes first, as in the program
    halves, bfloats = patterns.view(torch.half), patterns.view(torch.bfloat16)
    anything = torch.randint(-(2**31), 2**31, (1 << 19,)).to(torch.int32).view(torch.float32)
    near_half = halves.float().view(torch.int32)[:, None] + torch.tensor([0, 0xFFF, 0x1000, 0x1001, 0x1FFF])
    near_bfloat = bfloats.float().view(torch.int32)[:, None] + torch.tensor([0x7FFF, 0x8000, 0x8001, 0xFFFF])
    small = torch.randn(1 << 18) * 2.0 ** torch.randint(-28, -10, (1 << 18,))
    x = torch.cat([anything, *(n.view(-1).view(torch.float32) for n in (near_half.int(), near_bfloat.int())), small])

    x.numpy().tofile(tmp_path / "floats")
    output_of("conversions", str(tmp_path / "floats"), str(tmp_path / "converted"))
    data = torch.frombuffer(bytearray((tmp_path / "converted").read_bytes()), dtype=torch.uint8)
    to_half, to_bfloat, from_half, from_bfloat = data.split([2 * len(x), 2 * len(x), 4 << 16, 4 << 16])
    assert torch.equal(_bits(to_half.view(torch.half)), _bits(x.half()))
    assert torch.equal(_bits(to_bfloat.view(torch.bfloat16)), _bits(x.bfloat16()))
    assert torch.equal(_bits(from_half.view(torch.float32)), _bits(halves.float()))
    assert torch.equal(_bits(from_bfloat.view(torch.float32)), _bits(bfloats.float()))


def test_same_seed_same_run() -> None:
    first, second = (run(program("deadlock", 1), seed=3).stderr for _ in range(2))
    assert first == second


def test_builds_anew_only_what_changed(tmp_path: Path) -> None:
    (tmp_path / "value.h").write_text("constexpr int value = 1;")
    source = tmp_path / "main.cu"
    source.write_text('#include "value.h"\n#include <cstdio>\nint main() { std::printf("%d", value); }')
    path = build([source], tmp_path / "program")
    assert run(path).stdout == "1"
    made = path.stat().st_mtime_ns
    assert build([source], path).stat().st_mtime_ns == made
    (tmp_path / "value.h").write_text("constexpr int value = 2;")
    assert run(build([source], path)).stdout == "2"
