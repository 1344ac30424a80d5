"""The checker finds what is planted, and only that."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from csrc.toolchain import find_toolkit
from tests.codegen import binary, flow
from tests.codegen.binary import Kernel
from tests.codegen.checks import Expected, blocks_per_sm, problems
from tests.codegen.compile import nvcc_command

KERNELS = """
#include <cuda_runtime.h>

// y = 2x, 4 values at a time, or one by one.
template <class T, bool vectorized>
__global__ void __launch_bounds__(256, 4) scale_kernel(const float* x, float* y, int n) {
  for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) {
    if constexpr (vectorized) {
      const float4 v = reinterpret_cast<const float4*>(x)[i];
      reinterpret_cast<float4*>(y)[i] = {2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w};
    } else {
      y[i] = 2 * x[i];
    }
  }
}
template __global__ void scale_kernel<float, true>(const float*, float*, int);
template __global__ void scale_kernel<float, false>(const float*, float*, int);

__global__ void __launch_bounds__(256, 4) outside_kernel(const float4* x, float4* y) { y[0] = x[0]; }

// Works on 80 values at once.
__device__ __forceinline__ void work_on_80(const float* x, float* y, int n) {
  float v[80];
#pragma unroll
  for (int j = 0; j < 80; ++j) v[j] = x[j * 1024 + threadIdx.x];
  for (int i = 0; i < n; ++i) {
#pragma unroll
    for (int j = 0; j < 80; ++j) v[j] = v[j] * v[(j + 1) % 80] + 1.f;
  }
#pragma unroll
  for (int j = 0; j < 80; ++j) y[j * 1024 + threadIdx.x] = v[j];
}
__global__ void __launch_bounds__(1024, 1) spilling_kernel(const float* x, float* y, int n) { work_on_80(x, y, n); }
__global__ void __launch_bounds__(256) hungry_kernel(const float* x, float* y, int n) { work_on_80(x, y, n); }
__global__ void unbounded_kernel(float* y) { *y = 1; }
"""

COPY = Expected(loads=1, stores=1, narrow=0)  # reads one map, writes one


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kernel]:
    toolkit = find_toolkit()
    if toolkit is None:
        pytest.skip("there is no nvcc")
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted.cu").write_text(KERNELS)
    command = [*nvcc_command(toolkit, (90,)), "-o", folder / "planted.o", folder / "planted.cu"]
    subprocess.run(command, check=True)
    return {kernel.title: kernel for kernel in binary.read(folder / "planted.o")}


def test_a_good_kernel_passes(kernels: dict[str, Kernel]) -> None:
    good = kernels["scale_kernel<float, true>"]
    assert (good.arch, good.threads, good.blocks) == (90, 256, 4)
    assert (good.wide(store=False), good.wide(store=True), good.narrow(store=False)) == (1, 1, 0)
    assert problems(good, COPY) == []


def test_scalar_accesses_are_found(kernels: dict[str, Kernel]) -> None:
    assert problems(kernels["scale_kernel<float, false>"], COPY)[:2] == [
        "has 0 16-byte loads in a loop, not 1",
        "has 0 16-byte stores in a loop, not 1",
    ]


def test_too_few_accesses_are_found(kernels: dict[str, Kernel]) -> None:
    found = problems(kernels["scale_kernel<float, true>"], Expected(loads=2, stores=1))
    assert found == ["has 1 16-byte loads in a loop, not 2"]


def test_accesses_outside_loops_are_found(kernels: dict[str, Kernel]) -> None:
    outside = kernels["outside_kernel"]
    assert problems(outside, Expected(loads=1, stores=1, looping=False)) == []
    assert problems(outside, COPY)[0] == "has 0 16-byte loads in a loop, not 1"


def test_spills_are_found(kernels: dict[str, Kernel]) -> None:
    spills, stack = problems(kernels["spilling_kernel"], Expected())
    assert spills.startswith("spills: ")
    assert stack.startswith("has a stack of ")


def test_too_many_registers_are_found(kernels: dict[str, Kernel]) -> None:
    hungry = kernels["hungry_kernel"]
    assert problems(hungry, Expected()) == []
    hungry = replace(hungry, blocks=4)
    assert (
        "registers and 0 bytes of shared memory leave room for 2 blocks an SM, not 4" in problems(hungry, Expected())[0]
    )


def test_too_much_shared_memory_is_found(kernels: dict[str, Kernel]) -> None:
    (found,) = problems(kernels["scale_kernel<float, true>"], replace(COPY, busy=False, dynamic_shared=64 * 1024))
    assert "65536 bytes of shared memory leave room for 3 blocks an SM, not 4" in found


def test_too_little_under_way_is_found(kernels: dict[str, Kernel]) -> None:
    good = kernels["scale_kernel<float, true>"]
    (found,) = problems(replace(good, threads=32, blocks=1), COPY)
    assert found.startswith("has 1 16-byte loads under way at once, in 32 blocks an SM")


def test_missing_launch_bounds_are_found(kernels: dict[str, Kernel]) -> None:
    assert problems(kernels["unbounded_kernel"], Expected())[0].startswith("has no launch bounds")


@pytest.mark.parametrize(
    ("registers", "threads", "blocks"),
    [(32, 256, 8), (64, 256, 4), (65, 256, 3), (128, 256, 2), (255, 256, 1), (64, 1024, 1)],
)
def test_blocks_per_sm(registers: int, threads: int, blocks: int) -> None:
    """As the CUDA occupancy calculator has it, for sm_90."""
    assert blocks_per_sm(Kernel("k", (), 90, registers=registers, threads=threads)) == blocks


def test_loops() -> None:
    texts = ["MOV", "LDG", "@P0 BRA 0x50", "STG", "BRA 0x10", "NOP", "@P1 BRA P2, 0x0", "EXIT", "BRA 0x80"]
    body = [(16 * i, text) for i, text in enumerate(texts)]
    assert flow.innermost_loops(flow.successors(body)) == [0, 1, 1, 1, 1, 0, 0, None, None]


def test_loads_under_way() -> None:
    texts = ["LDG.E.128 R4, [R2.64]", "LDG.E.128 R8, [R2.64+0x10]", "FADD R0, R4, R5", "LDG.E.128 R12, [R2.64]", "EXIT"]
    body = [(16 * i, text) for i, text in enumerate(texts)]
    assert flow.in_flight(body, flow.successors(body), {0: None, 1: None, 3: None}) == 2


def test_names() -> None:
    names = {
        "_ZN9fusednorm4cuda12scale_kernelI13__nv_bfloat16Lb1ELb1EEEvPKT_PS3_l": (
            "scale_kernel",
            ("__nv_bfloat16", "true", "true"),
        ),
        "_Z6kernelPf": ("kernel", ()),
        "plane_moments_kernel": ("plane_moments_kernel", ()),
    }
    assert binary.demangle(list(names)) == names
