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
    numbers = [torch.empty(2, 64, dtype=compute) for _ in range(9)]
    rows = [torch.empty(2, 56 * 56, dtype=compute) for _ in range(4)]
    outer_and_gate = (*numbers[:4], rows[0], *numbers[4:8], rows[1])
    products = (torch.empty(3, 2, 64, dtype=compute), torch.empty(3, 2, 56 * 56, dtype=compute))
    for layout in ("planar", "channels_last"):

        def make() -> Tensor:
            x = torch.empty(2, 64, 56, 56, dtype=getattr(torch, dtype))
            return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x  # noqa: B023

        x, dy, residual = make(), make(), make()
        case = "plain"
        triton_kernels.plane_moments(x)
        triton_kernels.plane_affine(x, *numbers[:3], None, "silu", False)
        triton_kernels.plane_affine_reduce(dy, x, *numbers[:3], None, None, "gelu", False)
        triton_kernels.plane_affine_grad(dy, x, *numbers[:3], None, None, *numbers[3:5], "gelu")
        triton_kernels.position_reduce(x, *numbers[:2], "abs")
        triton_kernels.plane_pool(x, numbers[0], rows[0], "abs")
        triton_kernels.position_moments(x, *numbers[:4], rows[0])
        triton_kernels.position_affine(x, *outer_and_gate, None, "sigmoid", "silu")
        everything = (dy, x, *outer_and_gate, None, *rows[2:])
        triton_kernels.position_affine_reduce(*everything, "sigmoid", "gelu", False)
        triton_kernels.position_affine_spread(*everything, numbers[8], "sigmoid", "gelu", False)
        ends = (*numbers[7:9], *products, numbers[8], rows[0])
        triton_kernels.position_affine_grad(*everything, *ends, "abs", "sigmoid", "gelu")
        case = "residual"
        _, mask = triton_kernels.plane_affine(x, *numbers[:3], residual, "relu", True)
        triton_kernels.plane_affine_reduce(dy, x, *numbers[:3], None, mask, "relu", True)
        triton_kernels.plane_affine_grad(dy, x, *numbers[:3], None, None, *numbers[3:5], "identity")
        triton_kernels.position_affine(x, *outer_and_gate, residual, "sigmoid", "relu")
        everything = (dy, x, *outer_and_gate, residual, *rows[2:])
        triton_kernels.position_affine_reduce(*everything, "sigmoid", "relu", True)
        triton_kernels.position_affine_spread(*everything, numbers[8], "sigmoid", "relu", True)
        everything = (dy, x, *outer_and_gate, None, *rows[2:])
        triton_kernels.position_affine_grad(*everything, *ends, "abs", "sigmoid", "identity")
    return list(kernels.values())
