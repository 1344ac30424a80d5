// CUDA's words that are none of C++'s. Where nvcc compiles each .cu twice, for the host and for the device, one
// compilation here serves both.
#pragma once

#ifdef FUSEDNORM_EMULATION_DEVICE  // build.py defines it for .cu files
#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#endif

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __align__(n) __attribute__((aligned(n)))

// Empty: it also stands inside __attribute__((...)) in libstdc++.
#define __noinline__

// Each block has an OS thread of its own.
#define __shared__ __thread

// UBSan checks what nvcc takes on trust.
#define __builtin_assume(condition) ((condition) ? (void)0 : __builtin_unreachable())
