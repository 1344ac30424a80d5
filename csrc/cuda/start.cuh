// What every kernel begins with.
#pragma once

#include <cuda_runtime.h>

namespace fusednorm {

// All shared memory is dynamic: its size is the launcher's to say, where the tables of sizes are.
extern __shared__ __align__(16) unsigned char shared_bytes[];

// Whoever was launched while the kernel before it still ran (programmatic dependent launch, sm_90) waits here before it
// touches what that one writes; elsewhere there is nothing to wait for.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

// The next kernel's blocks may take the places that this one's leave.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

}  // namespace fusednorm
