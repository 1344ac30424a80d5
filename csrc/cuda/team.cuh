// Who works together on one calculation: a block, a cluster of blocks, or the whole grid, and how they wait for each other.
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "plan.h"

namespace fusednorm {

// All shared memory is dynamic: its size is the launcher's to say, where the tables of sizes are.
extern __shared__ __align__(16) unsigned char shared_bytes[];

struct Team {
  Scope scope;
  int rank, size;  // this block's number in the team, and the team's blocks

  // What any thread of the team wrote before, every thread of it sees after. All threads of all its blocks come here.
  __device__ __forceinline__ void sync() const {
    namespace cg = cooperative_groups;
    if (scope == Scope::block) {
      __syncthreads();
    } else if (scope == Scope::grid) {
      cg::this_grid().sync();
    } else {
#if __CUDA_ARCH__ >= 900
      cg::this_cluster().sync();
#endif
    }
  }
};

// The team that this block belongs to.
__device__ __forceinline__ Team team_of(Scope scope, int cluster_size) {
  if (scope == Scope::block) return {scope, 0, 1};
  if (scope == Scope::grid) return {scope, int(blockIdx.x), int(gridDim.x)};
  return {scope, int(blockIdx.x) % cluster_size, cluster_size};
}

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
