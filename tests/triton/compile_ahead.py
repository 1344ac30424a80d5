"""Compile the kernels, as their launchers call them, for GPUs that need not be there.

Not in a process with TRITON_INTERPRET: there is no compiler in it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget

from fusednorm import triton_kernels
from tests.codegen import binary


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


def look_into(compiled: Any, *arguments: str) -> binary.Kernel:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        (kernel,) = binary.read(Path(file.name), ptx=compiled.asm["ptx"])
    return replace(kernel, arguments=arguments, shared=compiled.metadata.shared)


def compile_all(capability: int, dtype: str) -> list[binary.Kernel]:
    """Every kernel in both layouts, plain and with a residual: those are its `arguments`, after the type."""
    triton.runtime.driver.set_active(Driver(capability))
    kernels: dict[tuple[str, ...], binary.Kernel] = {}
    layout = case = ""

    def start(kernel: Any, programs: int, num_warps: int, device: Any, *args: Any, **constants: Any) -> None:
        compiled = kernel.warmup(*args, grid=(programs,), num_warps=num_warps, enable_fp_fusion=False, **constants)
        kernels[kernel.fn.__name__, layout, case] = look_into(compiled, dtype, layout, case)

    triton_kernels.launch.start = start
    compute = torch.float64 if dtype == "float64" else torch.float32
    numbers = [torch.empty(2, 64, dtype=compute) for _ in range(5)]
    for layout in ("planar", "channels_last"):

        def make() -> Tensor:
            x = torch.empty(2, 64, 56, 56, dtype=getattr(torch, dtype))
            return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x  # noqa: B023

        x, dy, residual = make(), make(), make()
        case = "plain"
        triton_kernels.plane_moments(x)
        triton_kernels.plane_affine(x, *numbers[:3], None, "silu", False)
        triton_kernels.plane_affine_reduce(dy, x, *numbers[:3], None, None, "gelu", False)
        triton_kernels.plane_affine_grad(dy, x, *numbers[:3], None, None, *numbers[3:], "gelu")
        case = "residual"
        _, mask = triton_kernels.plane_affine(x, *numbers[:3], residual, "relu", True)
        triton_kernels.plane_affine_reduce(dy, x, *numbers[:3], None, mask, "relu", True)
        triton_kernels.plane_affine_grad(dy, x, *numbers[:3], None, None, *numbers[3:], "identity")
    return list(kernels.values())
