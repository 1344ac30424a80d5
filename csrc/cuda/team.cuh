// Who works together on one calculation: a block, a cluster of blocks, or the whole grid, and how they wait for each other.
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "plan.h"
#include "start.cuh"

namespace fusednorm {

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

}  // namespace fusednorm
