"""What is expected of each kernel's machine code: one small table for CUDA, one for Triton."""

from __future__ import annotations

from fusednorm.triton_kernels import tuning

from .binary import Kernel
from .checks import Expected

# Of CUDA's kernels that read and write maps, with a ReLU-like and with a smooth activation: loads and stores, one for
# each map (with a residual) and each step that a thread takes together: k...Loads and kGradientSteps in csrc/cuda.
MAPPING = {
    "plane_moments_kernel": ((4, 0), (4, 0)),
    "plane_affine_kernel": ((4, 2), (4, 2)),
    "plane_affine_reduce_kernel": ((6, 2), (3, 1)),
    "plane_affine_grad_kernel": ((6, 2), (3, 1)),
    "norm_forward_resident_kernel": ((12, 4), (12, 4)),  # both layouts in one
    "norm_backward_resident_kernel": ((12, 4), (6, 2)),
}
# Bytes that a thread leaves in shared memory for a reduction of m channels. (Resident kernels take what there is.)
LEFT = {"plane_moments_kernel": lambda m: 8 + 16 * m, "plane_affine_reduce_kernel": lambda m: 16 * m}
# Those that work on N×C values, and need only spill nothing.
SMALL = ("merge_moments_kernel", "merge_sums_kernel", "head_kernel", "head_grad_kernel", "head_grad_parameters_kernel")
SIZES = {"float": 4, "double": 8, "__nv_bfloat16": 2, "__half": 2}


def cuda(kernel: Kernel) -> Expected | None:
    """What is expected of a CUDA kernel: of <type, channels_last, vectorized, Acts>, or <type, Acts>."""
    if kernel.name in SMALL:
        return Expected()
    if kernel.name not in MAPPING:
        return None
    size = SIZES[kernel.arguments[0]]
    vectorized = "resident" in kernel.name or kernel.arguments[2] == "true"
    channels_last, smooth = kernel.arguments[1] == "true", kernel.arguments[-1] == "(Acts)1"
    channels = 16 // size if channels_last and vectorized else 1
    shared = (kernel.threads or 0) * LEFT.get(kernel.name, lambda m: 0)(channels)
    if not vectorized:
        return Expected(dynamic_shared=shared)
    loads, stores = MAPPING[kernel.name][smooth]
    # Smooth activations and doubles take the registers that more blocks would need.
    return Expected(loads=loads, stores=stores, busy=not smooth and size < 8, dynamic_shared=shared)


# Maps that a Triton kernel reads and writes, plain and with a residual (of which only ReLU's mask goes backward).
MAPS = {
    ("plane_moments_kernel", "plain"): (1, 0),
    ("plane_affine_kernel", "plain"): (1, 1),
    ("plane_affine_kernel", "residual"): (2, 1),
    ("plane_affine_reduce_kernel", "plain"): (2, 0),
    ("plane_affine_reduce_kernel", "residual"): (2, 1),
    ("plane_affine_grad_kernel", "plain"): (2, 1),
    ("plane_affine_grad_kernel", "residual"): (2, 1),
}
MERGING = [("merge_moments_kernel", "plain"), ("merge_sums_kernel", "plain"), ("merge_sums_kernel", "residual")]
ITEMSIZE = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}


def triton(kernel: Kernel) -> Expected | None:
    """What is expected of a Triton kernel, with the default tables; its arguments are type, layout and case."""
    dtype, _, case = kernel.arguments
    if (kernel.name, case) in MERGING:
        return Expected()
    if (kernel.name, case) not in MAPS:
        return None
    entry = tuning.TABLE[kernel.name.removesuffix("_kernel")]
    reads, writes = MAPS[kernel.name, case]
    steps = tuning.values(entry, ITEMSIZE[dtype]) * ITEMSIZE[dtype] // (16 * 32 * entry.num_warps)
    double = dtype == "float64"  # for gradcheck more than for speed: may spill a few registers
    gelu = kernel.name == "plane_affine_reduce_kernel" and case == "plain"  # takes the registers of more programs
    return Expected(
        loads=reads * steps,
        stores=writes * steps,
        looping=isinstance(entry, tuning.Reducing),
        narrow=5,  # center, scale, shift, a, b
        busy=not double and not gelu,
        stack=double,
    )
