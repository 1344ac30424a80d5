"""Compile the kernels, as their launchers call them, for GPUs that need not be there; print what came out as JSON.

    python -m tests.triton.compile_ahead 90 float32

Not in a process with TRITON_INTERPRET: there is no compiler in it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from fusednorm import triton_kernels

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class Driver:
    """As much of a driver as compiling takes."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def describe(compiled: Any) -> dict[str, Any]:
    ptx = compiled.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.check_output([TOOLS / "cuobjdump", "-res-usage", file.name], text=True)
    report = {key: int(n) for key, n in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    for access in re.findall(r"(?:ld|st)\.global[.\w:]*", ptx):
        report[access] = report.get(access, 0) + 1
    return report


def compile_all(capability: int, dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    triton.runtime.driver.set_active(Driver(capability))
    reports: dict[str, dict[str, Any]] = {}
    case = ""

    def start(kernel: Any, programs: int, num_warps: int, device: Any, *args: Any, **constants: Any) -> None:
        compiled = kernel.warmup(*args, grid=(programs,), num_warps=num_warps, enable_fp_fusion=False, **constants)
        reports[f"{case} {kernel.fn.__name__}"] = describe(compiled)

    triton_kernels.launch.start = start
    numbers = [torch.empty(2, 64, dtype=torch.float32) for _ in range(5)]
    for layout in ("planar", "channels_last"):

        def make() -> Tensor:
            x = torch.empty(2, 64, 56, 56, dtype=dtype)
            return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x  # noqa: B023

        x, dy, residual = make(), make(), make()
        case = f"{layout} plain"
        triton_kernels.plane_moments(x)
        triton_kernels.plane_affine(x, *numbers[:3], None, "silu", False)
        triton_kernels.plane_affine_reduce(dy, x, *numbers[:3], None, None, "gelu", False)
        triton_kernels.plane_affine_grad(dy, x, *numbers[:3], None, None, *numbers[3:], "gelu")
        case = f"{layout} residual"
        _, mask = triton_kernels.plane_affine(x, *numbers[:3], residual, "relu", True)
        triton_kernels.plane_affine_reduce(dy, x, *numbers[:3], None, mask, "relu", True)
        triton_kernels.plane_affine_grad(dy, x, *numbers[:3], None, None, *numbers[3:], "identity")
    return reports


if __name__ == "__main__":
    print(json.dumps(compile_all(int(sys.argv[1]), getattr(torch, sys.argv[2]))))
