// The groups that are larger than a warp.
#pragma once

#include "cuda_runtime.h"

namespace cooperative_groups {

struct thread_block {
  static void sync() { emulation::barrier(emulation::Scope::block); }
  static unsigned thread_rank() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
  static unsigned num_threads() { return blockDim.x * blockDim.y * blockDim.z; }
  static unsigned size() { return num_threads(); }
  static dim3 group_index() { return blockIdx; }
  static dim3 thread_index() { return threadIdx; }
};

struct grid_group {
  void sync() const { emulation::barrier(emulation::Scope::grid); }
  static unsigned long long num_blocks() { return (unsigned long long)(gridDim.x) * gridDim.y * gridDim.z; }
  static unsigned long long block_rank() {
    return blockIdx.x + gridDim.x * (blockIdx.y + (unsigned long long)(gridDim.y) * blockIdx.z);
  }
  static unsigned long long num_threads() { return num_blocks() * thread_block::num_threads(); }
  static unsigned long long size() { return num_threads(); }
  static unsigned long long thread_rank() {
    return block_rank() * thread_block::num_threads() + thread_block::thread_rank();
  }
};

struct cluster_group {
  static void sync() { emulation::barrier(emulation::Scope::cluster); }
  static unsigned block_rank() { return emulation::cluster_rank(); }
  static unsigned num_blocks() { return emulation::cluster_size(); }
  template <typename T>
  static T* map_shared_rank(T* shared, int rank) {
    return static_cast<T*>(emulation::map_shared(shared, unsigned(rank)));
  }
};

inline thread_block this_thread_block() { return {}; }
inline grid_group this_grid() { return {}; }
inline cluster_group this_cluster() { return {}; }

}  // namespace cooperative_groups
