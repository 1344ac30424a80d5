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
# Those of docs/positions.md, which know all activations: maps read (with a residual) and written; bytes that a thread
# leaves for a reduction, with steps of v values that have `a` bytes each in registers, planar and channels_last.
POSITIONS = {
    "position_reduce_kernel": (1, 0, lambda v, a: a * v, lambda v, a: 0),
    "position_moments_kernel": (1, 0, lambda v, a: a + 2 * a * v, lambda v, a: 0),
    "plane_pool_kernel": (1, 0, lambda v, a: 2 * 8, lambda v, a: 8 * v),
    "position_affine_kernel": (2, 1, lambda v, a: 0, lambda v, a: 0),
    "position_affine_reduce_kernel": (3, 1, lambda v, a: 7 * 8, lambda v, a: 8 * v),
    "position_affine_spread_kernel": (3, 1, lambda v, a: 2 * a * v, lambda v, a: 0),
    "position_affine_grad_kernel": (3, 1, lambda v, a: 0, lambda v, a: 0),
}
# Those that keep samples on the chip: 4 steps of what they keep, x or dy and x; then 2 of what is read and written
# beside it: a residual and y, or dx and dresidual; or, between sums, one of a residual and g.
KEPT = {
    "context_forward_kernel": (4 + 2, 2),
    "context_backward_kernel": (2 * 4, 2 * 2),
    "position_moments_pool_kernel": (4, 0),
    "position_moments_affine_kernel": (4 + 2, 2),
    "position_affine_spread_reduce_kernel": (2 * 4 + 1, 1),
}
# Bytes that a thread leaves in shared memory for a reduction of m channels. (Resident kernels take what there is.)
LEFT = {"plane_moments_kernel": lambda m: 8 + 16 * m, "plane_affine_reduce_kernel": lambda m: 16 * m}
# Those that work on N×C values, and need only spill nothing.
SMALL = (
    *("merge_moments_kernel", "merge_sums_kernel", "merge_parts_kernel", "merge_channels_kernel"),
    *("head_kernel", "head_grad_kernel", "head_grad_parameters_kernel"),
    *("any_head_kernel", "any_head_grad_kernel"),
)
SIZES = {"float": 4, "double": 8, "__nv_bfloat16": 2, "__half": 2}


def cuda(kernel: Kernel) -> Expected | None:
    """What is expected of a CUDA kernel: of <type, channels_last, vectorized, Acts>, or <type, Acts>."""
    if kernel.name in SMALL:
        return Expected()
    if kernel.name in POSITIONS:
        return _position(kernel)
    if kernel.name in KEPT:
        loads, stores = KEPT[kernel.name]
        return Expected(loads=loads, stores=stores)
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


def _position(kernel: Kernel) -> Expected:
    """Of <type, channels_last, vectorized>; the steps are csrc/cuda/tuning.h's kPositionLoads, position_steps and
    position_sum_steps."""
    size = SIZES[kernel.arguments[0]]
    channels_last, vectorized = (argument == "true" for argument in kernel.arguments[1:])
    reads, writes, *left = POSITIONS[kernel.name]
    shared = (kernel.threads or 0) * left[channels_last](16 // size if vectorized else 1, max(size, 4))
    if not vectorized:
        return Expected(dynamic_shared=shared)
    crowded = size == 2 and channels_last  # eight channels' coefficients and sums leave no registers for a third step
    summing = kernel.name == "position_affine_reduce_kernel"  # seven sums a value leave none for a second either
    steps = 4 if reads == 1 else 3 - crowded - (crowded and summing)
    busy = not (crowded and reads == 3)
    return Expected(loads=reads * steps, stores=writes * steps, busy=busy, dynamic_shared=shared)


# Maps that a Triton kernel reads and writes, plain and with a residual (of which only ReLU's mask goes backward).
MAPS = {
    ("plane_moments_kernel", "plain"): (1, 0),
    ("plane_affine_kernel", "plain"): (1, 1),
    ("plane_affine_kernel", "residual"): (2, 1),
    ("plane_affine_reduce_kernel", "plain"): (2, 0),
    ("plane_affine_reduce_kernel", "residual"): (2, 1),
    ("plane_affine_grad_kernel", "plain"): (2, 1),
    ("plane_affine_grad_kernel", "residual"): (2, 1),
    ("position_reduce_kernel", "plain"): (1, 0),
    ("plane_pool_kernel", "plain"): (1, 0),
    ("position_moments_kernel", "plain"): (1, 0),
    ("position_affine_kernel", "plain"): (1, 1),
    ("position_affine_kernel", "residual"): (2, 1),
    ("position_affine_reduce_kernel", "plain"): (2, 0),
    ("position_affine_reduce_kernel", "residual"): (3, 1),
    ("position_affine_spread_kernel", "plain"): (2, 0),
    ("position_affine_spread_kernel", "residual"): (3, 1),
    ("position_affine_grad_kernel", "plain"): (2, 1),
    ("position_affine_grad_kernel", "residual"): (2, 1),
}
# Of those that know a value per position: numbers of a plane (planar) or a position (channels_last) that come one by
# one, beside each 16 bytes of the maps. (What a loop's planes have, or positions, is loaded before it.)
NUMBERS = {
    "position_reduce_kernel": 2,
    "plane_pool_kernel": 1,
    "position_moments_kernel": 4,
    "position_affine_kernel": 8,
    "position_affine_reduce_kernel": 4,
    "position_affine_spread_kernel": 9,
    "position_affine_grad_kernel": 14,
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
    looping = isinstance(entry, tuning.Reducing)
    narrow = 5  # center, scale, shift, a, b
    if kernel.name in NUMBERS:
        narrow = NUMBERS[kernel.name] * max(steps, kernel.wide(False, looping) // reads)  # the compiler may unroll
    gelu = kernel.name == "plane_affine_reduce_kernel" and case == "plain"  # takes the registers of more programs
    return Expected(
        loads=reads * steps,
        stores=writes * steps,
        looping=looping,
        narrow=narrow,
        busy=not double and not gelu,
        stack=double,
    )
